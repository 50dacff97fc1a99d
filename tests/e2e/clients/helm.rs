//! helm: charts, which are artifacts with a config of their own kind.

use super::{digest, image};
use cidery_tests::{Client, Node, http};
use std::fs;

fn package(helm: &Client, version: &str) -> String {
    fs::create_dir_all(helm.at("greeter/templates")).unwrap();
    let chart = format!("apiVersion: v2\nname: greeter\nversion: {version}\nappVersion: \"1\"\n");
    fs::write(helm.at("greeter/Chart.yaml"), chart).unwrap();
    fs::write(helm.at("greeter/values.yaml"), "greeting: hello\n").unwrap();
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\ndata:\n  \
                    greeting: {{ .Values.greeting }} from {{ .Chart.Version }}\n";
    fs::write(helm.at("greeter/templates/greeting.yaml"), template).unwrap();
    helm.run(&["package", "greeter"]);
    format!("greeter-{version}.tgz")
}

#[test]
fn pushes_pulls_and_renders() {
    let Some(helm) = Client::built("helm") else { return };
    let node = Node::start(&[]);
    let charts = format!("oci://{}/charts", node.host());
    let chart = format!("{charts}/greeter");
    for version in ["0.1.0", "0.2.0", "0.2.1+build.5"] {
        let file = package(&helm, version);
        let said = helm.said(&["push", "--plain-http", &file, &charts]);
        let tag = version.replace('+', "_");
        let pushed = digest(&node, "charts/greeter", &tag).unwrap();
        assert!(said.contains(&pushed), "{said}");
        // A config and the chart.
        assert_eq!(image(&node, "charts/greeter", &tag).len(), 3);
    }
    let tags = http::get(&format!("http://{}/v2/charts/greeter/tags/list", node.http)).json();
    assert_eq!(tags["tags"], serde_json::json!(["0.1.0", "0.2.0", "0.2.1_build.5"]));

    helm.run(&[
        "pull",
        "--plain-http",
        "--version",
        "0.1.0",
        "--destination",
        &helm.at(""),
        "--untar",
        "--untardir",
        "out",
        &chart,
    ]);
    let read = |path: &str| fs::read_to_string(helm.at(path)).unwrap();
    assert_eq!(read("out/greeter/values.yaml"), read("greeter/values.yaml"));
    // It chooses among the tags that it lists.
    let rendered = helm.run(&["template", "there", "--plain-http", "--version", "<0.2.1", &chart]);
    assert!(rendered.contains("greeting: hello from 0.2.0"), "{rendered}");
    let newest = helm.run(&["show", "chart", "--plain-http", &chart]);
    assert!(newest.contains("version: 0.2.1+build.5"), "{newest}");
    let missing = helm.run_err(&["pull", "--plain-http", "--version", "0.3.0", &chart]);
    assert!(missing.contains("0.3.0"), "{missing}");
}
