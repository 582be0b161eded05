//! `init-shared-fs`: makes the layout of a shared volume, and tries what servers need of it.
//!
//! Run again, or by many pods at once, it changes nothing. Never changes an owner.

use super::{Exit, Refusal, hooks, pretty, print};
use crate::config::Config;
use crate::service::checkouts;
use crate::volume::{self, probe};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

pub fn run(config: &Config, root: Option<String>, json: bool) -> Result<Exit, Refusal> {
    let Some(root) = root.map(PathBuf::from).or_else(|| config.shared_root.clone()) else {
        let why = "there is no shared volume to prepare: give --shared-root PATH, or set AGENTICORE_SHARED_FS_ROOT";
        return Err(Refusal::new(Exit::BadUsage, why));
    };
    if !root.is_absolute() {
        let why = format!("--shared-root must be an absolute path, not `{}`", root.display());
        return Err(Refusal::new(Exit::BadUsage, why));
    }
    volume::make_layout(&root).map_err(|why| Refusal::new(Exit::Failed, why))?;
    let fetched = checkouts::make_missing(config.clone(), &root);
    let found = probe::look(&root.join("job-state"));
    let is_fit = !found.lacks.iter().any(|lack| lack.is_fatal);
    if json {
        let lacks: Vec<_> =
            found.lacks.iter().map(|lack| json!({"what": lack.sentence, "fatal": lack.is_fatal})).collect();
        let answer = json!({
            "root": root, "directories": volume::LAYOUT, "fit": is_fit, "can": found.good, "lacks": lacks,
        });
        print(&pretty(&answer))?;
    } else {
        let mut text = format!("{}: {} are there\n", root.display(), volume::LAYOUT.join(", "));
        text.push_str(&format!("tried and well: {}\n", found.good.join(", ")));
        for lack in &found.lacks {
            let mark = if lack.is_fatal { "unfit" } else { "note" };
            text.push_str(&format!("{mark}: {}\n", lack.sentence));
        }
        if let Ok(answer) = &fetched
            && !answer.synced.is_empty()
        {
            text.push_str(&hooks::told(answer));
        }
        print(&text)?;
    }
    // Servers begin without them, and try again.
    if let Err(why) = fetched {
        let _ = writeln!(std::io::stderr(), "agenticore: warn: {why}");
    }
    if is_fit {
        return Ok(Exit::Done);
    }
    Err(Refusal::new(Exit::Failed, format!("no server can run on {}", root.display())))
}
