//! What a machine needs in order to find its appliance, ready to paste.

use bento_protocol::HostName;

use crate::fleet::Server;

/// What its root types once.
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

/// What its NixOS configuration says.
pub(super) fn configuration(name: &HostName, server: &Server, host_keys: &[String]) -> String {
    let (address, port) = (&server.address, server.port);
    let keys: String = host_keys.iter().map(|key| format!(" \"{key}\"")).collect();
    format!(
        "    # beside bento.nixosModules.client, or without flakes <bento/nixos/client.nix>, among its modules\n    \
         services.bento-client = {{\n      enable = true;\n      name = \"{name}\";\n      \
         servers = [ {{ address = \"{address}\"; port = {port}; hostKeys = [{keys} ]; }} ];\n    }};\n"
    )
}
