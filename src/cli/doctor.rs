//! `doctor`: the findings, as they come.

use super::show::{Colour, paint, plain};
use super::{Exit, Refusal, pretty, print};
use crate::config::Config;
use crate::doctor::{Doctor, Finding};
use std::io::Write;

pub fn run(config: Config, fix: bool, json: bool) -> Result<Exit, Refusal> {
    let doctor = Doctor::new(config, fix).map_err(|why| Refusal::new(Exit::BadUsage, why))?;
    let findings = doctor.examine(|finding| {
        if !json {
            let _ = std::io::stdout().write_all(text(finding).as_bytes());
        }
    });
    if json {
        print(&pretty(&serde_json::to_value(&findings).unwrap_or_default()))?;
    }
    let wrong = findings.iter().filter(|finding| !finding.ok).count();
    if !json {
        print(&match wrong {
            0 => "everything is as it should be\n".to_owned(),
            1 => "one thing is wrong\n".to_owned(),
            count => format!("{count} things are wrong\n"),
        })?;
    }
    Ok(if wrong == 0 { Exit::Done } else { Exit::Failed })
}

fn text(finding: &Finding) -> String {
    let (word, colour) = if finding.ok { ("ok   ", Colour::Green) } else { ("WRONG", Colour::Red) };
    let mut text = format!("{} {}: {}\n", paint(word, colour), finding.check, plain(&finding.evidence));
    for problem in &finding.problems {
        text.push_str(&format!("      {}\n", plain(problem)));
    }
    for repaired in &finding.repaired {
        text.push_str(&format!("      {} {}\n", paint("fixed", Colour::Green), plain(repaired)));
    }
    text
}
