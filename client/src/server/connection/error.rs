use std::io;

use bento_protocol::HostName;

use crate::server::transport::ProxyFate;
use crate::settings::SETTINGS_FILE;

/// Why a server can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// No stream of bytes to it.
    #[error(
        "{server} can't be reached: {cause}. Does the appliance run there, and is this its address and port?"
    )]
    Unreachable {
        /// Its address and port.
        server: String,
        /// The error of the system.
        cause: io::Error,
    },
    /// It doesn't speak SSH, or not as we do.
    #[error("{server} answers, but there is no SSH connection: {}", cause.message())]
    Handshake {
        /// Its address and port.
        server: String,
        /// The error of libssh2.
        cause: ssh2::Error,
    },
    /// The same by way of a proxy command, which may not have reached it at all.
    #[error("there is no SSH connection to {server} ({}): the proxy command {fate}", cause.message())]
    Proxy {
        /// Its address and port.
        server: String,
        /// The error of libssh2.
        cause: ssh2::Error,
        /// The end of the command.
        fate: ProxyFate,
    },
    /// It isn't the server that was pinned.
    #[error(
        "{server} shows the host key {shown}, but pinned is {pinned}. Either its key was replaced: then put the one \
         that `bento host-key` prints on the appliance into hostKeys of services.bento-client.servers in the machine's \
         configuration, and for the next update into host_keys in {SETTINGS_FILE}; where that is a link into the Nix \
         store, `cp --remove-destination $(readlink -f {SETTINGS_FILE}) {SETTINGS_FILE}` makes it a file. Or this is \
         another server, and nothing was sent to it"
    )]
    HostKey {
        /// Its address and port.
        server: String,
        /// The fingerprint of the key that it shows.
        shown: String,
        /// The fingerprints of those that it should show.
        pinned: String,
    },
    /// It doesn't know the machine.
    #[error(
        "{server} doesn't let {name} in with the key {fingerprint}: `bento host add {name} --key \"{key}\"` on the \
         appliance's side enrols it"
    )]
    Refused {
        /// Its address and port.
        server: String,
        /// The machine.
        name: HostName,
        /// The fingerprint of the machine's key.
        fingerprint: String,
        /// The machine's public key.
        key: String,
    },
    /// It let the machine in, but there is nothing for it.
    #[error(
        "{server} let this machine in, but gives it no files ({}). Perhaps nothing is published for it yet: see \
         `bento status` there",
        cause.message()
    )]
    NoFiles {
        /// Its address and port.
        server: String,
        /// The error of libssh2.
        cause: ssh2::Error,
    },
    /// It was there, and isn't any more, or refuses something.
    #[error("{server}: {doing} failed: {cause}")]
    Failed {
        /// Its address and port.
        server: String,
        /// The request.
        doing: String,
        /// The error of libssh2.
        cause: io::Error,
    },
}
