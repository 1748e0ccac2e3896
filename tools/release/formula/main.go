// Command formula writes the Homebrew formula of a release, from the folder that
// goreleaser has filled: formula DIST. It installs the archives of the release.
//
// goreleaser itself writes only casks now. macOS keeps what a cask installs in
// quarantine until it is notarised; it does not do so with a formula.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "formula:", err)
		os.Exit(1)
	}
}

// release is what the formula names.
type release struct {
	Version string
	Sums    map[string]string // "darwin_arm64" → SHA-256 of the archive
}

func run(arguments []string, to io.Writer) error {
	if len(arguments) != 1 {
		return fmt.Errorf("usage: formula DIST")
	}
	r, err := read(arguments[0])
	if err != nil {
		return err
	}
	return formula.Execute(to, r)
}

// read takes the version from metadata.json and the sums from checksums.txt.
func read(dist string) (release, error) {
	r := release{Sums: map[string]string{}}
	metadata, err := os.ReadFile(filepath.Join(dist, "metadata.json"))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(metadata, &r); err != nil {
		return r, fmt.Errorf("metadata of the release: %w", err)
	}
	sums, err := os.ReadFile(filepath.Join(dist, "checksums.txt"))
	if err != nil {
		return r, err
	}
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if platform, ok := strings.CutPrefix(name, "streamer_"+r.Version+"_"); ok {
			if platform, ok := strings.CutSuffix(platform, ".tar.gz"); ok {
				r.Sums[platform] = sum
			}
		}
	}
	for _, platform := range []string{"darwin_amd64", "darwin_arm64", "linux_amd64", "linux_arm64"} {
		if r.Sums[platform] == "" {
			return r, fmt.Errorf("no archive for %s in checksums.txt", platform)
		}
	}
	return r, nil
}

var formula = template.Must(template.New("formula").Parse(`# Written by tools/release/formula for each release.
class Streamer < Formula
  desc "Publishes a PostgreSQL outbox table to Kafka as CloudEvents"
  homepage "https://github.com/outboxstream/streamer"
  version "{{ .Version }}"
  license "Apache-2.0"
{{ range $os, $name := .Systems }}
  on_{{ $name }} do
{{- range $cpu, $arch := $.Processors }}
    on_{{ $cpu }} do
      url "{{ $.Folder }}/streamer_{{ $.Version }}_{{ $os }}_{{ $arch }}.tar.gz"
      sha256 "{{ index $.Sums (printf "%s_%s" $os $arch) }}"
    end
{{- end }}
  end
{{ end }}
  def install
    bin.install "streamer"
    man1.install Dir["man/*"]
    bash_completion.install "completions/streamer.bash" => "streamer"
    zsh_completion.install "completions/_streamer"
    fish_completion.install "completions/streamer.fish"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/streamer version")
  end
end
`))

// Folder is where the release's files are.
func (r release) Folder() string {
	return "https://github.com/outboxstream/streamer/releases/download/v" + r.Version
}

// Systems are Go's names and Homebrew's.
func (release) Systems() map[string]string {
	return map[string]string{"darwin": "macos", "linux": "linux"}
}

// Processors are Homebrew's names and Go's.
func (release) Processors() map[string]string {
	return map[string]string{"arm": "arm64", "intel": "amd64"}
}
