//! Where what lies, and who may go there.

use crate::user::User;
use anyhow::Context as _;
use nonstop_model::Lab;
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

/// The folders of one data domain's PostgreSQL.
#[derive(Debug, Clone)]
pub struct Places {
    /// Clusters, on the disk: `writer/`, `reader/`, and what is being made.
    pub clusters: PathBuf,
    /// The socket of the writer: for the loader's group.
    pub load: PathBuf,
    /// The socket of the reader: for the servers' group.
    pub read: PathBuf,
    /// What root says to the servers: configuration.
    pub words: PathBuf,
    /// Who PostgreSQL runs as.
    pub owner: User,
    /// Who the front runs as.
    pub front: User,
    /// Who loads.
    pub loader: User,
}

impl Places {
    /// Those of data domain `domain`, whether or not they exist.
    pub fn of(lab: &Lab, domain: &str) -> anyhow::Result<Places> {
        let run = lab.run.join("data").join(domain);
        Ok(Places {
            clusters: lab.data(domain).join("rdb"),
            load: run.join("rdb-load"),
            read: run.join("rdb-read"),
            words: run.join("rdb"),
            owner: User::named("nonstop-rdb")?,
            front: User::named("nonstop-data")?,
            loader: User::named("nonstop-loader")?,
        })
    }

    /// Makes them exist. Repeatable.
    pub fn ensure(&self) -> anyhow::Result<()> {
        for folder in [&self.clusters, &self.load, &self.read, &self.words] {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        own(&self.clusters, self.owner.uid, self.owner.gid, 0o700)?;
        own(&self.load, self.owner.uid, self.loader.gid, 0o710)?;
        own(&self.read, self.owner.uid, self.front.gid, 0o710)?;
        own(&self.words, 0, self.owner.gid, 0o750)
    }
}

fn own(folder: &Path, uid: u32, gid: u32, mode: u32) -> anyhow::Result<()> {
    chown(folder, Some(uid), Some(gid))
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("give {} its owner and mode", folder.display()))
}
