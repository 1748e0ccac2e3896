package manual

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCandidates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		words []string
		want  []string
	}{
		{nil, []string{"tail", "checkpoint", "completion", "man"}},
		{[]string{"c"}, []string{"checkpoint", "completion"}},
		{[]string{"checkpoint", ""}, []string{"show", "set"}},
		{[]string{"--config", "x", "checkpoint", "s"}, []string{"show", "set"}},
		{[]string{"--config=x", "checkpoint", "se"}, []string{"set"}},
		{[]string{"tail", "--"}, []string{"--help", "--config", "--set", "--form", "--once"}},
		{[]string{"tail", "some.topic", "--o"}, []string{"--once"}},
		{[]string{"tail", "--form", ""}, []string{"text", "json"}},
		{[]string{"tail", "--form", "j"}, []string{"json"}},
		{[]string{"tail", "--form=j"}, []string{"--form=json"}},
		{[]string{"tail", "--form", "=", "j"}, []string{"json"}}, // as bash splits it
		{[]string{"tail", "--once", "--f"}, []string{"--form"}},
		{[]string{"tail", "--form", "json", "--o"}, []string{"--once"}},
		{[]string{"--set", "kafka.brok"}, []string{"kafka.brokers="}},
		{[]string{"-s", "kafka.brok"}, []string{"kafka.brokers="}},
		{[]string{"--set=kafka.brok"}, []string{"--set=kafka.brokers="}},
		{[]string{"completion", ""}, []string{"bash", "zsh", "fish"}},
		{[]string{"--config", ""}, nil}, // a file
		{[]string{"--unknown=x"}, nil},
		{[]string{"x"}, nil},
	} {
		t.Run(fmt.Sprint(c.words), func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, found := range candidates(model(t), c.words) {
				got = append(got, found.word)
			}
			assert.Equal(t, c.want, got)
		})
	}
}

// shell returns a function that runs a script in a shell in which streamer is
// the test's own binary.
func shell(t *testing.T, name string, arguments ...string) func(script string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && name != "bash" {
		t.Skipf("%s is not installed", name)
	}
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	folder := t.TempDir()
	require.NoError(t, os.Symlink(self, filepath.Join(folder, "streamer")))
	return func(script string) string {
		cmd := exec.CommandContext(t.Context(), path, append(arguments, "-c", script)...)
		cmd.Env = append(os.Environ(), played+"=1", "HOME="+folder, "PATH="+folder+string(os.PathListSeparator)+os.Getenv("PATH"))
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, string(output))
		return strings.TrimSpace(string(output))
	}
}

func TestBash(t *testing.T) {
	t.Parallel()
	bash := shell(t, "bash", "--norc")
	for words, want := range map[string]string{
		`checkpoint s`:         "show set",
		`tail --form = j`:      "json",
		`tail --config ""`:     "",
		`run --set kafka.brok`: "kafka.brokers=",
	} {
		t.Run(words, func(t *testing.T) {
			t.Parallel()
			script := `source <(streamer completion bash); COMP_WORDS=(streamer ` + words + `); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
				_streamer; echo "${COMPREPLY[@]}"`
			assert.Equal(t, want, bash(script))
			assert.Equal(t, "complete -o default -F _streamer streamer", bash("source <(streamer completion bash); complete -p streamer"))
		})
	}
}

func TestFish(t *testing.T) {
	t.Parallel()
	fish := shell(t, "fish", "--no-config")
	for line, want := range map[string]string{
		"streamer checkpoint s":         "set\tReplace it.\nshow\tPrint it.",
		"streamer tail --form=j":        "--form=json",
		"streamer --config /etc/passw":  "/etc/passwd",
		"streamer --set kafka.brok":     "kafka.brokers=\tBootstrap brokers, each as host:port.",
		"streamer tail --config x --on": "--once\tStop after one.",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			assert.Contains(t, fish("streamer completion fish | source; complete -C '"+line+"'"), want)
		})
	}
}

func TestZsh(t *testing.T) {
	t.Parallel()
	zsh := shell(t, "zsh", "-f")
	assert.Empty(t, zsh("streamer completion zsh | zsh -n /dev/stdin"))
	// Completion itself needs a terminal: what it would offer is recorded instead.
	assert.Equal(t, "plain show:Print it. set:Replace it.", zsh(`
		compdef() {}
		_describe() { print -- $2 ${(P)2} }
		source <(streamer completion zsh)
		words=(streamer checkpoint s) CURRENT=3
		_streamer`))
}
