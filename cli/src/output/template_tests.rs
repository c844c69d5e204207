//! Templates and what Go makes of them.

use super::*;
use serde_json::json;

fn inspected() -> Data {
    Data::document(&json!({
        "Id": "4f5e",
        "Name": "/web",
        "RestartCount": 0,
        "State": {"Status": "running", "Running": true, "Pid": 4711},
        "Config": {
            "Env": ["PATH=/bin", "A=<b>"],
            "Cmd": null,
            "Labels": {"zeta": "1", "alpha": "2"},
            "Volumes": null
        },
        "HostConfig": {"NetworkMode": "default", "Memory": 67_108_864, "PidsLimit": null, "Binds": null},
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": null},
            "Networks": {"bridge": {"IPAddress": "172.17.0.2"}}
        },
        "Mounts": [{"Source": "/a", "Destination": "/b", "RW": true}]
    }))
}

#[test]
fn what_go_prints() {
    let cases = [
        ("{{.Id}}", "4f5e"),
        ("{{.State.Pid}}", "4711"),
        ("{{.State.Running}}", "true"),
        ("{{.HostConfig.Memory}}", "67108864"),
        ("{{.Config.Env}}", "[PATH=/bin A=<b>]"),
        ("{{.Config.Cmd}}", "[]"),
        ("{{.Config.Volumes}}", "map[]"),
        ("{{.Config.Labels}}", "map[alpha:2 zeta:1]"),
        ("{{json .Config.Cmd}}", "null"),
        ("{{json .Config.Labels}}", r#"{"zeta":"1","alpha":"2"}"#),
        ("{{json .Config.Env}}", r#"["PATH=/bin","A=<b>"]"#),
        (
            "{{json .State}}",
            r#"{"Status":"running","Running":true,"Pid":4711}"#,
        ),
        ("{{json .Name}}", "\"/web\""),
        (
            "{{range .Config.Env}}{{println .}}{{end}}",
            "PATH=/bin\nA=<b>\n",
        ),
        (
            "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}}{{end}}",
            "bridge=172.17.0.2",
        ),
        (
            r#"{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}"#,
            "8080",
        ),
        (
            r#"{{with index .NetworkSettings.Ports "80/tcp"}}{{len .}}{{end}}"#,
            "1",
        ),
        (
            "{{range $p, $c := .NetworkSettings.Ports}}{{$p}} {{if $c}}{{(index $c 0).HostPort}}{{else}}-{{end}};{{end}}",
            "80/tcp 8080;81/tcp -;",
        ),
        (
            "{{range .Mounts}}{{.Source}}:{{.Destination}}{{end}}",
            "/a:/b",
        ),
        (r#"{{printf "%s-%d" .Id .RestartCount}}"#, "4f5e-0"),
    ];
    check(&cases);
}

#[test]
fn what_functions_and_structures_print() {
    let cases = [
        (r#"{{join .Config.Env ","}}"#, "PATH=/bin,A=<b>"),
        (r#"{{split "a:b" ":"}}"#, "[a b]"),
        (r#"{{index (split "a:b" ":") 1}}"#, "b"),
        (
            "{{upper .Id}} {{lower \"AB\"}} {{title \"ab cd\"}}",
            "4F5E ab Ab Cd",
        ),
        (r#"{{truncate "abcdef" 3}}|{{pad "x" 1 2}}|"#, "abc| x  |"),
        (
            r#"{{if eq .State.Status "running"}}up{{else}}down{{end}}"#,
            "up",
        ),
        (
            "{{if and .State.Running (not .Config.Cmd)}}yes{{end}}",
            "yes",
        ),
        ("{{- .Id -}} x", "4f5ex"),
        (r#"{{index .Config.Labels "alpha"}}"#, "2"),
        ("{{slice .Id 0 2}}", "4f"),
        ("{{.State}}", "{running true 4711}"),
        ("{{.HostConfig.PidsLimit}}", "<nil>"),
        (
            "{{.State.Health}} {{.SizeRw}} {{.HostConfig.Tmpfs}}",
            "<nil> <nil> map[]",
        ),
        (
            "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}",
            "none",
        ),
        ("{{.Mounts}}", "[{/a /b true}]"),
        (
            "{{.NetworkSettings.Ports}}",
            "map[80/tcp:[{0.0.0.0 8080}] 81/tcp:[]]",
        ),
        ("{{$x := .Id}}{{$x}}", "4f5e"),
        ("{{len .Mounts | printf \"%d\"}}", "1"),
        ("{{len .Config.Env}}", "2"),
    ];
    check(&cases);
}

fn check(cases: &[(&str, &str)]) {
    for (source, want) in cases {
        let got = Program::parse(source)
            .unwrap()
            .execute(&inspected())
            .unwrap();
        assert_eq!(got, *want, "{source}");
    }
}

#[test]
fn what_is_not_there() {
    let cases = [
        ("{{.Foo}}", "1:2", ".Foo", "Foo"),
        ("{{.State.Foo}}", "1:8", ".State.Foo", "Foo"),
        ("x\n{{ .Foo }}", "2:3", ".Foo", "Foo"),
    ];
    for (source, position, path, name) in cases {
        match Program::parse(source).unwrap().execute(&inspected()) {
            Err(ExecuteError::Missing(missing)) => {
                assert_eq!(missing.position, position, "{source}");
                assert_eq!(missing.path, path, "{source}");
                assert_eq!(missing.name, name, "{source}");
            }
            other => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn what_cannot_be_read() {
    let cases = [
        ("{{.Id", "template: :1: unclosed action"),
        ("{{foo .Id}}", "template: :1: function \"foo\" not defined"),
    ];
    for (source, want) in cases {
        assert_eq!(Program::parse(source).unwrap_err(), want, "{source}");
    }
}

#[test]
fn rows_have_methods_and_escape() {
    let fields = BTreeMap::from([("ID", "1".to_owned()), ("Names", "a>b".to_owned())]);
    let labels = BTreeMap::from([("com.example.x".to_owned(), "7".to_owned())]);
    let row = Data::row(&fields, labels);
    let cases = [
        (r#"{{.ID}} {{.Label "com.example.x"}}"#, "1 7"),
        (r#"{{$.Label "none"}}|"#, "|"),
        (r#"{{if .Label "com.example.x"}}y{{end}}"#, "y"),
        (r#"{{printf "%s" (.Label "com.example.x")}}"#, "7"),
        ("{{json .}}", r#"{"ID":"1","Names":"a\u003eb"}"#),
        ("{{json .Names}}", "\"a>b\""),
    ];
    for (source, want) in cases {
        let got = Program::parse(source).unwrap().execute(&row).unwrap();
        assert_eq!(got, want, "{source}");
    }
}

/// `{{ .Volumes }}` is what scripts of Docker's first years ask for; later versions refuse it.
#[test]
fn volumes_in_the_classic_form_and_mounts_in_gos() {
    let document = json!({
        "Id": "4f5e",
        "RestartCount": 0,
        "Mounts": [
            {"Type": "bind", "Source": "/srv/a", "Destination": "/a", "Mode": "rw", "RW": true,
                "Propagation": "rprivate"},
            {"Type": "volume", "Name": "data", "Source": "/v/data/_data", "Destination": "/d",
                "Driver": "local", "Mode": "z", "RW": false, "Propagation": ""},
            {"Type": "tmpfs", "Source": "", "Destination": "/m", "Mode": "", "RW": true,
                "Propagation": ""},
        ],
    });
    let data = Data::document(&document);
    let run = |text: &str| Program::parse(text).unwrap().execute(&data).unwrap();
    for (text, expected) in [
        ("{{ .Volumes }}", "map[/a:/srv/a /d:/v/data/_data]"),
        ("{{ .VolumesRW }}", "map[/a:true /d:false]"),
        ("{{index .Volumes \"/a\"}}", "/srv/a"),
        (
            "{{.Mounts}}",
            "[{bind  /srv/a /a  rw true rprivate} {volume data /v/data/_data /d local z false } \
             {tmpfs   /m   true }]",
        ),
        (
            "{{range .Mounts}}<{{.Name}}|{{.Driver}}>{{end}}",
            "<|><data|local><|>",
        ),
        ("{{json .Id}}", "\"4f5e\""),
    ] {
        assert_eq!(run(text), expected, "{text}");
    }
    assert!(!run("{{json .}}").contains("VolumesRW"));
    let none = Data::document(&json!({"RestartCount": 0, "Mounts": []}));
    let empty = Program::parse("{{.Volumes}}").unwrap().execute(&none);
    assert_eq!(empty.unwrap(), "map[]");
}
