//! The lines that the README asks a newcomer to paste.

use std::path::Path;

use tokio::process::Command;

/// Pastes the block under "Try it" into a shell, and expects each answer in turn.
#[tokio::test]
async fn the_readmes_lines_work_when_pasted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (_, rest) = readme.split_once("## Try it").unwrap();
    let block = rest.split("```").nth(1).unwrap().strip_prefix("sh\n").unwrap();
    assert_eq!(block.matches("curl ").count(), 5);

    let pasted = Command::new("bash").args(["-euc", block]).current_dir(root).output().await.unwrap();
    let printed = String::from_utf8_lossy(&pasted.stdout);
    assert!(pasted.status.success(), "{printed}{}", String::from_utf8_lossy(&pasted.stderr));
    let answers =
        [r#""status":"up""#, r#""status":"created""#, r#""status":"confirmed""#, "Longjing green tea", "White tea"];
    let mut rest = printed.as_ref();
    for answer in answers {
        let Some((_, after)) = rest.split_once(answer) else { panic!("{answer} does not follow in {printed}") };
        rest = after;
    }
}
