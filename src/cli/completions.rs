//! What shells complete after `agenticore`, printed from the table of commands. Pure.

use super::commands::{COMMANDS, Flag, Row};
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

fn bash() -> String {
    let names: Vec<&str> = COMMANDS.iter().map(|row| row.name).collect();
    let mut cases = String::new();
    for row in &COMMANDS {
        let all: Vec<String> = flags(row).map(|flag| format!("--{}", flag.name)).collect();
        let with_value = row.flags.iter().filter(|flag| flag.value.is_some());
        let with_value: Vec<String> = with_value
            .flat_map(|flag| {
                flag.short.map(|letter| format!("-{letter}")).into_iter().chain([format!("--{}", flag.name)])
            })
            .collect();
        let values = if with_value.is_empty() { "-".to_owned() } else { with_value.join("|") };
        let _ = writeln!(cases, "    {}) words=\"{}\" values=\"|{values}|\" ;;", row.name, all.join(" "));
    }
    format!(
        "\
# bash completion of agenticore. `source <(agenticore completions bash)`, or in a file of
# ~/.local/share/bash-completion/completions/ called agenticore.
_agenticore() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command='' words='' values='' word
  for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do
    case $word in -*) ;; *) command=$word; break ;; esac
  done
  case $command in
    '') words=\"{names} --help --version\" ;;
{cases}  esac
  COMPREPLY=()
  # What a flag takes is the shell's to complete: a file, or nothing.
  case $values in *\"|$before|\"*) return ;; esac
  case $command:$current in
    :* | *:-*) mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\") ;;
  esac
}}
complete -o default -F _agenticore agenticore
",
        names = names.join(" ")
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
            let value = flag.value.map(|value| format!(":{}:_files", zsh_text(value))).unwrap_or_default();
            let help = zsh_text(flag.help);
            let equals = if flag.value.is_some() { "=" } else { "" };
            let _ = write!(cases, " '--{}{equals}[{help}]{value}'", flag.name);
            if let Some(letter) = flag.short {
                let plus = if flag.value.is_some() { "+" } else { "" };
                let _ = write!(cases, " '-{letter}{plus}[{help}]{value}'");
            }
        }
        let _ = writeln!(cases, " '*::argument:_files' ;;");
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
        for flag in flags(row) {
            let short = flag.short.map(|letter| format!(" -s {letter}")).unwrap_or_default();
            let value = if flag.value.is_some() { " -r -F" } else { "" };
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
