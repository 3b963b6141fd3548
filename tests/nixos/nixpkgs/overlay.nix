# Which packages of Debian stand in for which of nixpkgs'.
{ debian }:
final: prev:
let
  inherit (prev) lib;

  # A package with the files of packages of Debian; an attribute that NixOS reads from it comes from nixpkgs' own.
  link =
    name: packages: more:
    let
      package = debian.package (
        {
          inherit (final) stdenvNoCC;
          inherit name packages;
          passthru = {
            override = _: package;
          } // more.passthru or { };
        }
        // removeAttrs more [ "passthru" ]
      )
      # All in one: whoever wants one output of it gets the whole.
      // lib.genAttrs [ "bin" "dev" "lib" "man" "doc" "info" ] (_: package);
    in
    package;

  plain = lib.mapAttrs (name: packages: link name packages { }) {
    acl = [ "acl" ];
    attr = [ "attr" ];
    bzip2 = [ "bzip2" ];
    coreutils = [ "coreutils" ];
    coreutils-full = [ "coreutils" ];
    cpio = [ "cpio" ];
    curl = [ "curl" ];
    dbus-broker = [ "dbus-broker" ];
    diffutils = [ "diffutils" ];
    dosfstools = [ "dosfstools" ];
    e2fsprogs = [ "e2fsprogs" ];
    file = [ "file" ];
    findutils = [ "findutils" ];
    fuse3 = [ "fuse3" ];
    gawk = [ "gawk" ];
    getent = [ "libc-bin" ];
    getconf = [ "libc-bin" ];
    git = [ "git" ];
    gitMinimal = [ "git" ];
    gnugrep = [ "grep" ];
    gnupatch = [ "patch" ];
    gnused = [ "sed" ];
    gnutar = [ "tar" ];
    gzip = [ "gzip" ];
    host = [ "bind9-host" ];
    iproute2 = [ "iproute2" ];
    iptables = [ "iptables" ];
    iputils = [ "iputils-ping" ];
    jq = [ "jq" ];
    kexec-tools = [ "kexec-tools" ];
    kmod = [ "kmod" ];
    less = [ "less" ];
    libcap = [ "libcap2-bin" ];
    linux-pam = [ "libpam-modules" "libpam-modules-bin" "libpam0g" ];
    lvm2 = [ "lvm2" "dmsetup" ];
    nano = [ "nano" ];
    ncurses = [ "ncurses-bin" "ncurses-base" ];
    nettools = [ "net-tools" "hostname" ];
    nftables = [ "nftables" ];
    openssh = [ "openssh-client" "openssh-server" "openssh-sftp-server" ];
    procps = [ "procps" ];
    psmisc = [ "psmisc" ];
    rsync = [ "rsync" ];
    strace = [ "strace" ];
    sudo = [ "sudo" ];
    time = [ "time" ];
    tzdata = [ "tzdata" ];
    which = [ "debianutils" ];
    libxml2 = [ "libxml2-utils" ];
    libxslt = [ "xsltproc" ];
    xz = [ "xz-utils" ];
    zstd = [ "zstd" ];
    kbd = [ "kbd" ];
    # Named by NixOS, and in use nowhere here.
    audit = [ ];
    cni-plugins = [ ];
    groff = [ ];
    libidn2 = [ ];
    linuxHeaders = [ ];
    man-db = [ ];
    nix-bash-completions = [ ];
    openresolv = [ ];
    bcache-tools = [ ];
    bind = [ ];
    fish = [ ];
    iw = [ ];
    mdadm = [ ];
    mkpasswd = [ ];
    mtools = [ ];
    netcat = [ ];
    texinfoInteractive = [ ];
    tpm2-tss = [ ];
    wirelesstools = [ ];
    xonsh = [ ];
    zsh = [ ];
  };
in
plain
// {
  debian = debian.tree;

  bash = link "bash" [ "bash" ] {
    passthru.shellPath = "/bin/bash";
    postLink = "ln -s bash $out/bin/sh";
  };
  bashInteractive = final.bash;
  bash-completion = link "bash-completion" [ "bash-completion" ] { };
  util-linux = link "util-linux" [ "util-linux" "mount" "bsdutils" "login" ] { };
  util-linuxMinimal = final.util-linux;
  shadow = link "shadow" [ "passwd" "login" "login.defs" "uidmap" ] { passthru = { inherit (final) su; shellPath = "/bin/nologin"; }; };
  su = link "su" [ "util-linux" ] { };
  cacert = link "nss-cacert" [ ] {
    passthru.p11kit = final.cacert // { outPath = "${final.cacert}/p11kit"; };
    postLink = "mkdir -p $out/p11kit/etc/ssl/trust-source; " + "mkdir -p $out/etc/ssl/certs; ln -s $debian/etc/ca-certificates.crt $out/etc/ssl/certs/ca-bundle.crt";
  };
  fuse = link "fuse" [ "fuse3" ] { postLink = "ln -sf fusermount3 $out/bin/fusermount"; };
  iana-etc = link "iana-etc" [ ] { postLink = "ln -s $debian/etc $out/etc"; };
  glibcLocales = link "glibc-locales" [ ] {
    postLink = "mkdir -p $out/lib/locale; touch $out/lib/locale/locale-archive";
  };
  libxcrypt = prev.libxcrypt // link "libxcrypt" [ ] { passthru = { inherit (prev.libxcrypt) enabledCryptSchemeIds; }; };
  # Nobody reads scripts of nixpkgs here.
  shellcheck = link "shellcheck" [ ] { postLink = "ln -s $debian/bin/true $out/bin/shellcheck"; passthru.compiler = final.perl; };
  shellcheck-minimal = final.shellcheck;
  findXMLCatalogs = final.libxslt;
  nix = link "nix" [ "nix-bin" "nix-setup-systemd" ] {
    version = "2.26.3";
    # Debian gives the socket to a group that NixOS doesn't have.
    postLink = "echo 'd /nix/var/nix/daemon-socket 0755 root root - -' >$out/lib/tmpfiles.d/nix-daemon.conf";
  };
  perl = link "perl" [ "perl" "perl-base" ] { passthru.withPackages = _: final.perl; };
  python3 = link "python3" [ "python3" "python3-minimal" "python3.13-minimal" ] { passthru.withPackages = _: final.python3; };
  python3Minimal = final.python3;

  dbus = link "dbus" [ "dbus" "dbus-bin" "dbus-daemon" "dbus-system-bus-common" "dbus-session-bus-common" ] {
    postLink = "mkdir -p $out/libexec; ln -s ../lib/dbus-1.0/dbus-daemon-launch-helper $out/libexec/; ln -sf $debian/debian/dbus-1/* $out/share/dbus-1/";
  };

  systemd = link "systemd" [ "systemd" "systemd-resolved" "systemd-timesyncd" "udev" "libpam-systemd" ] {
    version = "257";
    passthru = {
      inherit (prev.systemd.passthru) interfaceVersion withBootloader withEfi withHostnamed withKmod withLocaled withTimedated;
      withUtmp = false;
      withCryptsetup = false;
      withImportd = false;
      withMachined = false;
      withPortabled = false;
      inherit (final) util-linux kmod kbd;
    };
    units = "example";
    # A file of its own, so that another package is another program.
    postLink = "cp --remove-destination $debian/debian/systemd/systemd $out/lib/systemd/systemd";
  };

  kmod-blacklist-ubuntu = final.writeTextDir "modprobe.conf" "";
  kmod-debian-aliases = final.writeText "kmod-debian-aliases.conf" "";

  # By which packages are joined.
  xorg = prev.xorg // { inherit (final) lndir; };
  lndir = final.writeShellScriptBin "lndir" ''exec cp -rs --no-preserve=mode --update=none "$2/." "''${3:-.}/"'';

  # Wrappers are linked with libc.so; what they take out of the environment, Debian's loader does as well.
  pkgsStatic = final // {
    callPackage =
      path: given:
      final.callPackage path (given // { unsecvars = final.writeTextDir "unsecvars.h" "#define UNSECURE_ENVVARS \"LD_PRELOAD\\0\""; });
  };

  # Cargo has built these already: bento's programs, which lie among the tests of the copy of its repository, and NixOS'
  # switch in Rust.
  rustPlatform.buildRustPackage =
    args:
    final.runCommand "${args.pname}-${args.version}" { inherit (args) meta; } (
      if args.pname == "switch-to-configuration" then
        "mkdir $out; ln -s ${import ./stored.nix { name = "switch"; }}/bin $out/bin"
      else
        ''
          install -D -t $out/bin ${args.src}/tests/programs/${args.pname} ${args.src}/tests/programs/bento-manual
          ${args.postInstall}
        ''
    );

  # What writes TOML in nixpkgs.
  remarshal = final.writeScriptBin "json2toml" ''
    #!${final.python3}/bin/python3
    import json, sys, tomli_w
    tomli_w.dump(json.load(open(sys.argv[1])), open(sys.argv[2], "wb"))
  '';

  # The kernel is the host's: this one is only there to be another one.
  linuxPackagesOf =
    version:
    lib.makeExtensible (_: {
      inherit (final) stdenv;
      kernel = lib.makeOverridable (_: final.runCommand "linux-${version}" {
        passthru = {
          inherit version;
          modDirVersion = version;
          features = { };
          config = { };
          kernelOlder = lib.versionOlder version;
          kernelAtLeast = lib.versionAtLeast version;
        };
      } ''
        mkdir -p $out/lib/modules/${version}
        echo ${version} | tee $out/bzImage >$out/lib/modules/${version}/modules.order
        touch $out/lib/modules/${version}/modules.builtin
      '') { };
    });
  linuxPackages = final.linuxPackagesOf "6.12";
  # Nothing can be added to it, so that it is used as it is.
  aggregateModules = modules: { override = _: builtins.head modules; };

  # Podman runs these from its PATH.
  podman = link "podman" [ "podman" ] {
    postLink = ''
      mkdir -p $out/libexec/path
      for program in crun conmon passt pasta netavark aardvark-dns; do
        for folder in bin lib/podman; do
          [ ! -e $debian/$folder/$program ] || ln -s $debian/$folder/$program $out/libexec/path/
        done
      done
      rm $out/bin/podman
      printf '#!${final.runtimeShell}\nPATH=%s:$PATH exec %s "$@"\n' $out/libexec/path $debian/bin/podman >$out/bin/podman
      chmod +x $out/bin/podman
    '';
  };
  # Named by NixOS for podman.
  skopeo.policy = final.writeTextDir "default-policy.json" (builtins.toJSON { default = [ { type = "insecureAcceptAnything"; } ]; });
  catatonit = final.podman;

  # Whatever else is asked for can't be fetched, and says so when it is built.
  fetchurl =
    args:
    (derivation {
      name = "unavailable";
      inherit (final.stdenv.hostPlatform) system;
      builder = "/not/available/here:${toString (args.url or args.urls or args.name or "")}";
    })
    // args;
}
