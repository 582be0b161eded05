//! What shells complete after `agenticore`, printed from the table of commands. Pure.

use super::commands::{COMMANDS, Flag, Row};
use crate::job::Status;
use crate::service::Scope;
use std::fmt::Write;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    pub const NAMES: [&'static str; 3] = ["bash", "zsh", "fish"];

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Bash, Self::Zsh, Self::Fish]
            .into_iter()
            .zip(Self::NAMES)
            .find(|(_, known)| *known == name)
            .map(|(it, _)| it)
    }
}

pub fn text(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Zsh => zsh(),
        Shell::Fish => fish(),
    }
}

const HELP: Flag = Flag { short: Some('h'), name: "help", value: None, help: "say what it does, and with which flags" };

/// With the one that each command has.
fn flags(row: &Row) -> impl Iterator<Item = &Flag> {
    row.flags.iter().chain([&HELP])
}

/// The words that may stand where the table says `value`; none: anything may.
fn choices(value: Option<&str>) -> Vec<&'static str> {
    match value {
        Some("STATUS") => Status::ALL.map(Status::as_str).to_vec(),
        Some("SCOPE") => Scope::NAMES.to_vec(),
        Some("SHELL") => Shell::NAMES.to_vec(),
        Some("WHICH") => vec!["all", "agentihooks", "bundle"],
        Some("sync") => vec!["sync"],
        Some("new NAME") => vec!["new"],
        _ => Vec::new(),
    }
}

/// As it is typed: `-s`, `--status`.
fn spellings(flag: &Flag) -> impl Iterator<Item = String> {
    flag.short.map(|letter| format!("-{letter}")).into_iter().chain([format!("--{}", flag.name)])
}

fn bash() -> String {
    let names: Vec<&str> = COMMANDS.iter().map(|row| row.name).collect();
    let (mut cases, mut chosen) = (String::new(), String::new());
    for row in &COMMANDS {
        let words = choices(row.word).into_iter().map(str::to_owned);
        let all: Vec<String> = words.chain(flags(row).map(|flag| format!("--{}", flag.name))).collect();
        let with_value = row.flags.iter().filter(|flag| flag.value.is_some());
        for flag in with_value.clone().filter(|flag| !choices(flag.value).is_empty()) {
            let asked: Vec<String> = spellings(flag).map(|flag| format!("'{} {flag}'", row.name)).collect();
            let _ = writeln!(chosen, "    {}) chosen=\"{}\" ;;", asked.join(" | "), choices(flag.value).join(" "));
        }
        let with_value: Vec<String> = with_value.flat_map(spellings).collect();
        let values = if with_value.is_empty() { "-".to_owned() } else { with_value.join("|") };
        let _ = writeln!(cases, "    {}) words=\"{}\" values=\"|{values}|\" ;;", row.name, all.join(" "));
    }
    format!(
        "\
# bash completion of agenticore. `source <(agenticore completions bash)`, or in a file of
# ~/.local/share/bash-completion/completions/ called agenticore.
_agenticore() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command='' words='' values='' word
  local chosen=''
  for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do
    case $word in -*) ;; *) command=$word; break ;; esac
  done
  case $command in
    '') words=\"{names} --help --version\" ;;
{cases}  esac
  case \"$command $before\" in
{chosen}  esac
  COMPREPLY=()
  if [[ $chosen ]]; then
    mapfile -t COMPREPLY < <(compgen -W \"$chosen\" -- \"$current\")
    return
  fi
  # What a flag takes is the shell's to complete: a file, or nothing.
  case $values in *\"|$before|\"*) return ;; esac
  case $command:$current in
    :* | *:-*{taking_words}) mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\") ;;
  esac
}}
complete -o default -F _agenticore agenticore
",
        names = names.join(" "),
        taking_words = COMMANDS
            .iter()
            .filter(|row| !choices(row.word).is_empty())
            .map(|row| format!(" | {}:*", row.name))
            .collect::<String>(),
    )
}

/// For a text within single quotes, and within an `_arguments` specification.
fn zsh_text(text: &str) -> String {
    text.replace('\'', "'\\''").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:")
}

fn zsh() -> String {
    let mut cases = String::new();
    let mut commands = String::new();
    for row in &COMMANDS {
        let _ = writeln!(commands, "    '{}:{}'", row.name, zsh_text(row.summary));
        let _ = write!(cases, "        {}) _arguments", row.name);
        for flag in flags(row) {
            let completes = match &choices(flag.value)[..] {
                [] => "_files".to_owned(),
                words => format!("({})", words.join(" ")),
            };
            let value = flag.value.map(|value| format!(":{}:{completes}", zsh_text(value))).unwrap_or_default();
            let help = zsh_text(flag.help);
            let equals = if flag.value.is_some() { "=" } else { "" };
            let _ = write!(cases, " '--{}{equals}[{help}]{value}'", flag.name);
            if let Some(letter) = flag.short {
                let plus = if flag.value.is_some() { "+" } else { "" };
                let _ = write!(cases, " '-{letter}{plus}[{help}]{value}'");
            }
        }
        let _ = match &choices(row.word)[..] {
            [] => writeln!(cases, " '*::argument:_files' ;;"),
            words => writeln!(cases, " '1::argument:({})' '*::argument:' ;;", words.join(" ")),
        };
    }
    format!(
        "\
#compdef agenticore
# zsh completion of agenticore, for a file called _agenticore in a directory of $fpath.
_agenticore() {{
  local -a commands
  commands=(
{commands}  )
  local state line
  _arguments -C '(-h --help)'{{-h,--help}}'[say what it does]' '(-V --version)'{{-V,--version}}'[print the version]' \\
    '1:command:->command' '*::argument:->argument'
  case $state in
    command) _describe command commands ;;
    argument)
      case $line[1] in
{cases}      esac ;;
  esac
}}
compdef _agenticore agenticore
"
    )
}

fn fish_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

fn fish() -> String {
    let mut text = "\
# fish completion of agenticore, for ~/.config/fish/completions/agenticore.fish.
complete -c agenticore -f
complete -c agenticore -n __fish_use_subcommand -s h -l help -d 'say what it does'
complete -c agenticore -n __fish_use_subcommand -s V -l version -d 'print the version'
"
    .to_owned();
    for row in &COMMANDS {
        let (name, summary) = (row.name, fish_text(row.summary));
        let _ = writeln!(text, "complete -c agenticore -n __fish_use_subcommand -a {name} -d '{summary}'");
        let words = choices(row.word);
        if !words.is_empty() {
            let _ = writeln!(
                text,
                "complete -c agenticore -n '__fish_seen_subcommand_from {name}' -a '{}'",
                words.join(" ")
            );
        }
        for flag in flags(row) {
            let short = flag.short.map(|letter| format!(" -s {letter}")).unwrap_or_default();
            let value = match (flag.value, &choices(flag.value)[..]) {
                (None, _) => String::new(),
                (Some(_), []) => " -r -F".to_owned(),
                (Some(_), words) => format!(" -x -a '{}'", words.join(" ")),
            };
            let help = fish_text(flag.help);
            let _ = writeln!(
                text,
                "complete -c agenticore -n '__fish_seen_subcommand_from {name}'{short} -l {}{value} -d '{help}'",
                flag.name
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `WRITE_GOLDEN=1` writes them anew.
    #[test]
    fn completions_are_as_they_were() {
        for name in Shell::NAMES {
            crate::golden::check(&format!("completions.{name}"), &text(Shell::parse(name).unwrap()));
        }
        assert_eq!(Shell::parse("sh"), None);
    }
}
