//! Makes one table of the files in `assets`, each also compressed, so that the console needs no step of its own before `cargo build`.

use std::{
    env,
    error::Error,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

const ASSETS: &str = "assets";
/// The best that there is: it is done once.
const LEVEL: u8 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ASSETS}");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join(ASSETS);
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let mut table = String::from("static ASSETS: &[Asset] = &[\n");
    for (number, file) in files.iter().enumerate() {
        let bytes = fs::read(file)?;
        let deflated = out.join(format!("{number}.deflated"));
        fs::write(&deflated, miniz_oxide::deflate::compress_to_vec_zlib(&bytes, LEVEL))?;
        let (path, whole, small) = (text(file.strip_prefix(&root)?)?, text(file)?, text(&deflated)?);
        let digest = BASE64_STANDARD.encode(Sha256::digest(&bytes));
        writeln!(
            table,
            "    Asset {{ path: {path:?}, digest: {digest:?}, bytes: include_bytes!({whole:?}), deflated: include_bytes!({small:?}) }},"
        )?;
    }
    table.push_str("];\n");
    // The one script that stands in the page itself: a policy lets it through by its digest.
    let page = fs::read_to_string(root.join("index.html"))?;
    let (_, map) = page.split_once("<script type=\"importmap\">").ok_or("the page has no import map")?;
    let (map, _) = map.split_once("</script>").ok_or("the import map has no end")?;
    writeln!(table, "const IMPORT_MAP: &str = \"sha256-{}\";", BASE64_STANDARD.encode(Sha256::digest(map)))?;
    fs::write(out.join("assets.rs"), table)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn text(path: &Path) -> Result<&str, &'static str> {
    path.to_str().ok_or("a file's name is not UTF-8")
}
