# Debian's programs as one store path, and packages that are links into it: they stand in for what nixpkgs compiles.
let
  debian = import ./stored.nix { name = "debian"; };
in
{
  tree = debian;

  # A package with all files of these packages of Debian.
  package =
    {
      stdenvNoCC,
      name,
      packages,
      version ? "0",
      outputs ? [ "out" ],
      # Where units and what belongs to them go.
      units ? "lib",
      postLink ? "",
      passthru ? { },
      meta ? { },
    }:
    stdenvNoCC.mkDerivation {
      pname = name;
      inherit version outputs passthru;
      meta = { mainProgram = name; } // meta;
      preferLocalBuild = true;
      allowSubstitutes = false;
      inherit debian packages;
      # One process for all links: there are thousands.
      buildCommand = ''
        for output in $outputs; do mkdir -p "''${!output}"; done
        for package in $packages; do cat "$debian/debian/lists/$package"; done |
          perl -MFile::Path=make_path -MFile::Basename -MFile::Copy -ne '
            chomp; my $from = "$ENV{debian}/$_";
            next if -d $from && !-l $from or !-l $from && !-e $from;
            my $to = "$ENV{out}/$_"; make_path(dirname $to);
            if (!m,^debian/,) { symlink $from, $to }
            elsif (-l $from) { symlink readlink($from), $to }
            else { copy $from, $to }'
        # Units and rules are copied, and lead to this package.
        if [ -d $out/debian ]; then
          find $out/debian -type f -exec sed -i "s,/usr/s\?bin/,$out/bin/,g" {} +
          mkdir -p $out/lib $out/${units}
          [ ! -e $out/debian/udev ] || cp -r $out/debian/udev $out/lib/
          rm -rf $out/debian/udev
          cp -r $out/debian/. $out/${units}/
          rm -r $out/debian
        fi
        mkdir -p "$out/bin"; [ -e "$out/sbin" ] || ln -s bin "$out/sbin"
        ${postLink}
      '';
    };
}
