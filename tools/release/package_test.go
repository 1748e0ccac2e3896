package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers the format
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm" // registers the format
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// dist is the folder of a release to test, or empty.
var dist = os.Getenv("STREAMER_DIST")

// build returns the package for this machine: that of the release, or one made as
// goreleaser makes it, with stand-ins for what a release builds.
func build(t *testing.T, format string) string {
	t.Helper()
	if dist != "" {
		found, err := filepath.Glob(filepath.Join(dist, "*_linux_"+runtime.GOARCH+"."+format))
		require.NoError(t, err)
		require.Len(t, found, 1)
		return found[0]
	}
	info := nfpm.WithDefaults(configured(t))
	require.NoError(t, nfpm.PrepareForPackager(info, format))
	packager, err := nfpm.Get(format)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "streamer."+format)
	file, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, packager.Package(info, file))
	require.NoError(t, file.Close())
	return path
}

// configured is what .goreleaser.yaml says about packages.
func configured(t *testing.T) *nfpm.Info {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, ".goreleaser.yaml"))
	require.NoError(t, err)
	var c struct {
		Packages []struct {
			nfpm.Overridables `yaml:",inline"`
			Maintainer        string
		} `yaml:"nfpms"`
	}
	// The time is a template for goreleaser.
	require.NoError(t, yaml.Unmarshal(bytes.ReplaceAll(text, []byte("{{ .CommitDate }}"), []byte("2026-01-01T00:00:00Z")), &c))
	require.Len(t, c.Packages, 1)
	p := c.Packages[0]
	folder := t.TempDir()
	for _, content := range p.Contents {
		if name, built := strings.CutPrefix(content.Source, "bin/package/"); built {
			content.Source = standIn(t, folder, name, "")
		} else if content.Source != "" {
			content.Source = filepath.Join(root, content.Source)
		}
	}
	for _, script := range []*string{&p.Scripts.PostInstall, &p.Scripts.PreRemove, &p.Scripts.PostRemove} {
		*script = filepath.Join(root, *script)
	}
	p.Contents = append(p.Contents, &files.Content{
		Source: standIn(t, folder, "streamer", "#!/bin/sh\necho streamer 0.1.0\n"), Destination: "/usr/bin/streamer",
	})
	return &nfpm.Info{
		Name: "streamer", Arch: runtime.GOARCH, Platform: "linux", Version: "0.1.0", Maintainer: p.Maintainer, Overridables: p.Overridables,
	}
}

func standIn(t *testing.T, folder, name, content string) string {
	t.Helper()
	path := filepath.Join(folder, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o755))
	return path
}

// output runs a command that has to succeed.
func output(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, arguments...)
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, string(text))
	return string(text)
}

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed", program)
	}
}

// installed are the files of both packages, with their modes.
var installed = map[string]string{
	"/usr/bin/streamer":                                  "-rwxr-xr-x",
	"/usr/lib/systemd/system/streamer.service":           "-rw-r--r--",
	"/usr/lib/sysusers.d/streamer.conf":                  "-rw-r--r--",
	"/etc/streamer/":                                     "drwxr-x---",
	"/etc/streamer/streamer.yaml":                        "-rw-r-----",
	"/usr/share/man/man1/streamer.1.gz":                  "-rw-r--r--",
	"/usr/share/bash-completion/completions/streamer":    "-rw-r--r--",
	"/usr/share/fish/vendor_completions.d/streamer.fish": "-rw-r--r--",
	"/usr/share/doc/streamer/CHANGELOG.md":               "-rw-r--r--",
}

func TestDebContents(t *testing.T) {
	t.Parallel()
	need(t, "dpkg-deb")
	deb := build(t, "deb")
	got := map[string]string{}
	for line := range strings.Lines(output(t, "dpkg-deb", "--contents", deb)) {
		fields := strings.Fields(line) // mode, owner, size, date, time, name
		require.Len(t, fields, 6, line)
		assert.Equal(t, "root/root", fields[1], line)
		got[strings.TrimPrefix(fields[5], ".")] = fields[0]
	}
	for name, mode := range installed {
		assert.Equal(t, mode, got[name], name)
	}
	assert.Contains(t, got, "/usr/share/doc/streamer/copyright")
	assert.Contains(t, got, "/usr/share/zsh/vendor-completions/_streamer")
	assert.Equal(t, "streamer", strings.TrimSpace(output(t, "dpkg-deb", "--field", deb, "Package")))
	conffiles := output(t, "dpkg-deb", "--info", deb, "conffiles")
	assert.Equal(t, "/etc/streamer/streamer.yaml\n", conffiles, "an upgrade keeps what the operator has written")
}

func TestRPMContents(t *testing.T) {
	t.Parallel()
	need(t, "rpm")
	got := map[string]string{}
	for line := range strings.Lines(output(t, "rpm", "--query", "--package", "--queryformat",
		"[%{FILEMODES:perms} %{FILENAMES} %{FILEFLAGS:fflags}\n]", build(t, "rpm"))) {
		fields := strings.Fields(line)
		got[fields[1]] = fields[0]
		assert.Equal(t, fields[1] == "/etc/streamer/streamer.yaml", slices.Contains(fields[2:], "cn"), "config, noreplace: %s", line)
	}
	for name, mode := range installed {
		assert.Equal(t, mode, got[strings.TrimSuffix(name, "/")], name)
	}
	assert.Contains(t, got, "/usr/share/zsh/site-functions/_streamer")
}

// emptySystem returns the folder of a system without packages, and its dpkg.
func emptySystem(t *testing.T) (folder string, dpkg func(arguments ...string) string) {
	t.Helper()
	folder = t.TempDir()
	for _, inside := range []string{"etc", "var/lib/dpkg/updates", "var/lib/dpkg/info"} {
		require.NoError(t, os.MkdirAll(filepath.Join(folder, inside), 0o755))
	}
	standIn(t, folder, "var/lib/dpkg/status", "")
	// The machine's own log is not that of the empty system.
	options := []string{"--root=" + folder, "--log=" + filepath.Join(folder, "dpkg.log"), "--force-script-chrootless", "--force-depends"}
	return folder, func(arguments ...string) string {
		return output(t, "dpkg", append(slices.Clone(options), arguments...)...)
	}
}

// The deb is installed, upgraded, removed and purged in an empty system.
func TestDebInstalls(t *testing.T) {
	t.Parallel()
	need(t, "dpkg")
	need(t, "systemd-sysusers")
	if os.Geteuid() != 0 {
		t.Skip("dpkg installs as root only")
	}
	deb := build(t, "deb")
	system, dpkg := emptySystem(t)
	configuration := filepath.Join(system, "etc/streamer/streamer.yaml")

	dpkg("--install", deb)
	assert.Regexp(t, `^streamer \d+\.\d+\.\d+`, output(t, filepath.Join(system, "usr/bin/streamer"), "version"))
	users, err := os.ReadFile(filepath.Join(system, "etc/passwd"))
	require.NoError(t, err)
	user := regexp.MustCompile(`(?m)^streamer:[^:]*:\d+:(\d+):[^:]*:/var/lib/streamer:/usr/sbin/nologin$`).FindStringSubmatch(string(users))
	require.NotEmpty(t, user, "the user exists and cannot log in: %s", users)
	for _, path := range []string{configuration, filepath.Dir(configuration)} {
		owner := strings.TrimSpace(output(t, "stat", "--format=%u:%g", path))
		assert.Equal(t, "0:"+user[1], owner, "only root and the service can read %s", path)
	}

	const mine = "kafka: {brokers: [kafka.example.com:9092]}\n"
	require.NoError(t, os.WriteFile(configuration, []byte(mine), 0o640))
	dpkg("--install", deb)
	kept, err := os.ReadFile(configuration)
	require.NoError(t, err)
	assert.Equal(t, mine, string(kept), "an upgrade keeps the configuration")

	assert.Contains(t, dpkg("--remove", "streamer"), "replication slot", "the operator learns that the slot still keeps WAL")
	assert.FileExists(t, configuration)
	assert.NoFileExists(t, filepath.Join(system, "usr/bin/streamer"))
	dpkg("--purge", "streamer")
	assert.NoDirExists(t, filepath.Dir(configuration))
}

// Everything that systemd would complain about, but for the units that the unit
// refers to.
func TestUnitIsWellFormed(t *testing.T) {
	t.Parallel()
	need(t, "systemd-analyze")
	text, err := os.ReadFile(filepath.Join(root, "deploy/systemd/streamer.service"))
	require.NoError(t, err)
	// systemd looks for the program.
	program := standIn(t, t.TempDir(), "streamer", "#!/bin/sh\n")
	unit := filepath.Join(t.TempDir(), "streamer.service")
	require.NoError(t, os.WriteFile(unit, bytes.ReplaceAll(text, []byte("/usr/bin/streamer"), []byte(program)), 0o644))
	assert.Empty(t, output(t, "systemd-analyze", "verify", "--man=no", unit))
}

// A release has everything that it announces, and its checksums are right.
func TestDist(t *testing.T) {
	t.Parallel()
	if dist == "" {
		t.Skip("make release tests a release")
	}
	var metadata struct{ Version string }
	content, err := os.ReadFile(filepath.Join(dist, "metadata.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(content, &metadata))
	sums, err := os.ReadFile(filepath.Join(dist, "checksums.txt"))
	require.NoError(t, err)
	want := map[string]bool{}
	for platform, formats := range map[string][]string{
		"linux_amd64":   {".tar.gz", ".deb", ".rpm"},
		"linux_arm64":   {".tar.gz", ".deb", ".rpm"},
		"darwin_amd64":  {".tar.gz"},
		"darwin_arm64":  {".tar.gz"},
		"windows_amd64": {".zip"},
	} {
		for _, format := range append(formats, ".cdx.json") {
			want["streamer_"+metadata.Version+"_"+platform+format] = true
		}
	}
	got := map[string]bool{}
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		got[name] = true
		content, err := os.ReadFile(filepath.Join(dist, name))
		require.NoError(t, err)
		assert.Equal(t, sum, fmt.Sprintf("%x", sha256.Sum256(content)), name)
	}
	assert.Equal(t, want, got)

	binary, err := filepath.Glob(filepath.Join(dist, "streamer_linux_"+runtime.GOARCH+"_*", "streamer"))
	require.NoError(t, err)
	require.Len(t, binary, 1)
	assert.Regexp(t, `^streamer `+regexp.QuoteMeta(metadata.Version)+`( \([0-9a-f]{12}\))?\n$`, output(t, binary[0], "version"))
}
