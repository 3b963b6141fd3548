//! The setup of a machine, ready to paste.

use bento_protocol::HostName;

use crate::fleet::Server;

/// The commands for its root.
pub(super) fn first_contact(name: &HostName, server: &Server, host_keys: &[String]) -> String {
    let (address, port) = (&server.address, server.port);
    let address = match address.as_str().contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    };
    let keys: String = host_keys
        .iter()
        .map(|key| format!(" --host-key \"{key}\""))
        .collect();
    format!(
        "    bento-client bootstrap --name {name} --server {address}{keys}\n    bento-client update\n"
    )
}

/// The lines for its NixOS configuration.
pub(super) fn configuration(name: &HostName, server: &Server, host_keys: &[String]) -> String {
    let (address, port) = (&server.address, server.port);
    let keys: String = host_keys.iter().map(|key| format!(" \"{key}\"")).collect();
    format!(
        "    # with the module bento.nixosModules.client; without flakes: <bento/nixos/client.nix>\n    \
         services.bento-client = {{\n      enable = true;\n      name = \"{name}\";\n      \
         servers = [ {{ address = \"{address}\"; port = {port}; hostKeys = [{keys} ]; }} ];\n    }};\n"
    )
}
