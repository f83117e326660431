//! For `make config`: reads a document of AppConfig on standard input, and prints each setting with the layer that it comes from
//! as one JSON object. Environment variables `APP__SECTION__FIELD` are those of this process.

use std::{
    io::{Read, Write, stdin, stdout},
    process::ExitCode,
};

use settings::Layers;

fn main() -> ExitCode {
    match print() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

fn print() -> Result<(), Box<dyn std::error::Error>> {
    let mut document = String::new();
    stdin().read_to_string(&mut document)?;
    let layers = Layers::of_process().with_document(Some(document).filter(|document| !document.trim().is_empty()));
    layers.settings()?;
    let origins = layers
        .origins()?
        .into_iter()
        .map(|(field, (value, layer))| (field, serde_json::json!({"value": value, "layer": layer})));
    let origins: serde_json::Map<String, serde_json::Value> = origins.collect();
    writeln!(stdout(), "{}", serde_json::Value::from(origins))?;
    Ok(())
}
