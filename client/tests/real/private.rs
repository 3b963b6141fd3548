use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use crate::env::{ClientEnv, flake, with};

/// `me:word`, as a browser would send it.
const LOGIN: &str = "authorization: basic bwu6d29yza==";

#[test]
fn a_netrc_among_the_secrets_opens_private_inputs() {
    let mut env = ClientEnv::new();
    let port = serve_privately(archive(&env));
    let private = format!(
        "{{ inputs.private = {{ url = \"http://127.0.0.1:{port}/private.tar.gz\"; flake = false; }};\n\
         outputs = {{ self, private }}: {{ nixosConfigurations.kikimora.config.system.build.toplevel =\n\
         builtins.seq (builtins.readFile (private + \"/default.nix\")) (import ./system.nix ./.); }}; }}"
    );
    let contents = with(flake("1"), "config/flake.nix", &private);
    env.publish(contents.clone(), &[]);
    env.update().with(1).complaining("HTTP error 401");

    let netrc = "machine 127.0.0.1 login me password word\n";
    env.publish(with(contents, "secrets/netrc", netrc), &[]);
    env.update().with(0);
    assert_eq!(env.running().as_deref(), Some("1"));
}

fn archive(env: &ClientEnv) -> Vec<u8> {
    let folder = env.path("private");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("default.nix"), "{ }").unwrap();
    let path = env.path("private.tar.gz");
    let status = Command::new("tar")
        .arg("-czf")
        .arg(&path)
        .arg("-C")
        .arg(env.path(""))
        .arg("private")
        .status();
    assert!(status.unwrap().success());
    fs::read(path).unwrap()
}

/// Serves this to every client that logs in, as long as the test runs.
fn serve_privately(content: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that hangs up in the middle is its own business.
            let _ = answer(&stream.unwrap(), &content);
        }
    });
    port
}

fn answer(mut stream: &TcpStream, content: &[u8]) -> io::Result<()> {
    let mut is_known = false;
    let mut is_head = false;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        is_known |= line.to_lowercase() == LOGIN;
        is_head |= line.starts_with("HEAD ");
        if line.is_empty() {
            break;
        }
    }
    let (status, content) = match is_known {
        true => ("200 OK", content),
        false => ("401 Unauthorized", &[] as &[u8]),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        content.len()
    )?;
    if !is_head {
        stream.write_all(content)?;
    }
    Ok(())
}
