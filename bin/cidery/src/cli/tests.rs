//! What others script against, and what the pages show.

use super::*;

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

/// The tables of the operator's page: what they call a flag, a variable and a key is one and the same.
#[test]
fn the_page_names_flags_and_variables_that_there_are() {
    let page = include_str!("../../../../docs/operations.md");
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve").expect("there is one");
    let quoted = |cell: &'static str| cell.split('`').nth(1).unwrap_or_default();
    let mut rows = 0;
    for row in page.lines().filter(|line| line.starts_with("| `--")) {
        let cells: Vec<_> = row.split(" | ").collect();
        let flag = quoted(cells[0]).split([' ', '=']).next().unwrap_or_default();
        let Some(arg) =
            serve.get_arguments().find(|arg| arg.get_long().is_some_and(|long| flag == format!("--{long}")))
        else {
            panic!("{row}")
        };
        let variable = arg.get_env().and_then(|name| name.to_str()).expect("each has one");
        let key = flag.trim_start_matches("--");
        assert_eq!(variable, format!("CIDERY_{}", key.replace('-', "_").to_uppercase()));
        for cell in &cells[1..cells.len() - 1] {
            match quoted(cell) {
                name if name.starts_with("CIDERY_") => assert_eq!(name.split('=').next(), Some(variable), "{row}"),
                text if text.contains(" = ") => assert!(text.starts_with(&format!("{key} = ")), "{row}"),
                _ => {}
            }
        }
        rows += 1;
    }
    assert!(rows > 20, "{rows}");
}

#[test]
fn the_promised_spellings_parse() {
    for line in [
        "cidery serve --data d --http 127.0.0.1:0 --swarm /ip4/127.0.0.1/tcp/0 --swarm /ip4/127.0.0.1/udp/0/quic-v1 \
         --peer /ip4/1.2.3.4/tcp/1/p2p/x --bootstrap none --mdns off --dns 127.0.0.1:53",
        "cidery serve --cache-limit 50GiB --store-limit 500MB --reserve 0 --history 1 --upload-expiry 24h --blob-expiry 30m",
        "cidery serve --require-references --require-platforms linux/amd64,linux/arm64 --deletes=false --read-only",
        "cidery serve --require-references=false",
        "cidery serve --tls-cert c --tls-key k --tls-client-ca a --tls-client optional --cors https://ui.example \
         --max-connections 10 --max-uploads 2 --max-downloads 3 --header-timeout 5s --stall-timeout 1m --search-timeout 10s",
        "cidery serve --hosts registry.lan,registry.example --anonymous-pull=false --insecure-auth=true",
        "cidery serve --metrics 127.0.0.1:9100 --access-log stderr --audit-log /var/log/cidery/audit.jsonl",
        "cidery status --data d --json",
        "cidery publish local --once --data d --json",
        "cidery publish",
        "cidery unpublish local --data d",
        "cidery images --data d --json",
        "cidery pull example.com/app:1 --data d",
        "cidery pin add example.com/app:1 --data d --json",
        "cidery pin rm example.com/app:1 --data d --json",
        "cidery pin ls --data d --json",
        "cidery export hello:1 out --format docker --data d",
        "cidery import layout --as hello:1 --data d",
        "cidery serve --htpasswd f --anonymous-pull --trusted-proxies 10.0.0.0/8,::1 --insecure-auth",
        "cidery user add alice --password-stdin --data d",
        "cidery user remove alice --data d",
        "cidery user list --data d --json",
        "cidery user token alice --name ci --expires 90days --rights pull,create --data d --json",
        "cidery user token alice --list --json",
        "cidery user token alice --revoke ci",
        "cidery gc --all --data d --json",
        "cidery retention --dry-run --data d --json",
        "cidery purge sha256:0 --data d --json",
        "cidery backup copy --data d --json",
        "cidery du --data d --json",
        "cidery scrub --rate 200MiB --data d --json",
        "cidery scrub",
    ] {
        Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}
