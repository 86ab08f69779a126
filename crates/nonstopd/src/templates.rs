//! Environment templates, read anew from their folder whenever they are asked for, so that an
//! admin adds one without a restart.

use nonstop_model::{EnvironmentTemplate, Lab, TemplateName, template::Known, yaml};
use std::{collections::BTreeMap, path::PathBuf};

/// Templates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The folder or a file in it cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no such template.
    #[error("there is no template `{0}`")]
    Unknown(TemplateName),
    /// The file says something we cannot follow.
    #[error(transparent)]
    Config(#[from] yaml::ConfigError),
}

/// The template `name`, checked against what `lab` has; not against the images that are built.
pub fn load(lab: &Lab, name: &TemplateName) -> Result<EnvironmentTemplate, TemplateError> {
    let path = lab.templates.join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => TemplateError::Unknown(name.clone()),
        _ => TemplateError::Read { path: path.clone(), source },
    })?;
    let known = Known::of(lab);
    Ok(EnvironmentTemplate::parse(&path.display().to_string(), &text, Some(&known))?)
}

/// All templates that can be used, by name; the others are logged.
pub fn list(lab: &Lab) -> Result<BTreeMap<TemplateName, EnvironmentTemplate>, TemplateError> {
    let read = |source| TemplateError::Read { path: lab.templates.clone(), source };
    let mut templates = BTreeMap::new();
    for entry in std::fs::read_dir(&lab.templates).map_err(read)? {
        let file = entry.map_err(read)?.file_name();
        let name = file.to_str().and_then(|f| f.strip_suffix(".yaml")?.parse().ok());
        let Some(name): Option<TemplateName> = name else { continue };
        match load(lab, &name) {
            Ok(template) => drop(templates.insert(name, template)),
            Err(e) => tracing::warn!("template {name} is left out: {e}"),
        }
    }
    Ok(templates)
}
