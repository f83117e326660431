//! The lines that the README asks a newcomer to paste.

use std::path::Path;

use tokio::process::Command;

use crate::service::stack_file;

/// Pastes the blocks under "Try it" into a shell, one after the other, and expects each answer in turn.
#[tokio::test]
async fn the_readmes_lines_work_when_pasted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (_, rest) = readme.split_once("## Try it").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let blocks: Vec<&str> = section.split("```").filter_map(|block| block.strip_prefix("sh\n")).collect();
    assert_eq!(blocks.len(), 4);

    let script = blocks.join("\n").replace(".local/stack.env", stack_file("stack.env").to_str().unwrap());
    let pasted = Command::new("bash").args(["-euc", &script]).current_dir(root).output().await.unwrap();
    let printed = String::from_utf8_lossy(&pasted.stdout);
    assert!(pasted.status.success(), "{printed}{}", String::from_utf8_lossy(&pasted.stderr));
    let answers = [
        r#""status":"up""#,
        r#""status":"created""#,
        r#""status":"confirmed""#,
        "Longjing green tea",
        "White tea",
        r#""by":-3"#,
        r#""status":"delivered""#,
        r#""status":"requested""#,
        r#""status":"completed""#,
        r#""agrees":true"#,
        r#""status":"confirmed""#,
        r#""status":"cancelling""#,
        r#""status":"cancelled""#,
        r#""last_name":"王""#,
        r#""total_count":"#,
        r#""total_is_exact":true"#,
        r#""type":"OrderCreated""#,
        r#""type":"OrderCancelled""#,
        "order_service_orders{status=",
    ];
    let mut rest = printed.as_ref();
    for answer in answers {
        let Some((_, after)) = rest.split_once(answer) else { panic!("{answer} does not follow in {printed}") };
        rest = after;
    }
}
