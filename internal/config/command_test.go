package config

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
)

// script writes a program and returns its path.
func script(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o700))
	return name
}

func TestSecretRunsCommand(t *testing.T) {
	t.Parallel()
	count := filepath.Join(t.TempDir(), "count")
	name := script(t, `echo x >> "$1"; wc -l < "$1" | tr -d ' '; printf '%s' "$2" >&2`)
	for i, line := range []string{name + " " + count, fmt.Sprintf(`[%q, %q, "two words"]`, name, count), "  " + name + "   " + count} {
		value, err := NewSecret(commandReference + line).Reveal(t.Context())
		require.NoError(t, err)
		assert.Equal(t, strconv.Itoa(i+1), value, "it is run each time, and the newline is not part of the value")
	}
}

// Nothing is expanded, because there is no shell.
func TestSecretCommandHasNoShell(t *testing.T) {
	t.Parallel()
	name := script(t, `printf '%s|' "$@"`)
	value, err := NewSecret("exec:" + name + ` $HOME;id 'a b' *`).Reveal(t.Context())
	require.NoError(t, err)
	assert.Equal(t, `$HOME;id|'a|b'|*|`, value)
	value, err = NewSecret(fmt.Sprintf(`exec:[%q, "a b", ""]`, name)).Reveal(t.Context())
	require.NoError(t, err)
	assert.Equal(t, `a b||`, value)
}

func TestSecretCommandFails(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		line  string
		says  string
		class failure.Class
	}{
		"exit code":   {script(t, "echo c4n4ry; echo token has expired >&2; exit 3"), "exit status 3: token has expired", failure.Transient},
		"no output":   {script(t, "echo nothing to say >&2"), "no output: nothing to say", failure.Transient},
		"long output": {script(t, "head -c 70000 /dev/zero | tr '\\0' c"), "more than 65536 bytes", failure.Transient},
		"long error":  {script(t, "head -c 70000 /dev/zero | tr '\\0' e >&2; exit 1"), "exit status 1: eee", failure.Transient},
		"no program":  {filepath.Join(t.TempDir(), "missing"), "no such file", failure.Misconfigured},
		"no words":    {" ", "program is missing", failure.Misconfigured},
		"no array":    {`["c4n4ry`, "JSON array", failure.Misconfigured},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			value, err := NewSecret(commandReference + test.line).Reveal(t.Context())
			require.ErrorContains(t, err, test.says)
			assert.Empty(t, value)
			assert.NotContains(t, err.Error(), canary)
			assert.Less(t, len(err.Error()), 1500)
			assert.Equal(t, test.class, failure.ClassOf(err))
		})
	}
}

// A command that hangs is ended together with what it has started.
func TestSecretCommandIsEnded(t *testing.T) {
	t.Parallel()
	began := filepath.Join(t.TempDir(), "began")
	name := script(t, `sleep 600 & echo $! > "$1.new"; mv "$1.new" "$1"; wait`)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := NewSecret("exec:" + name + " " + began).Reveal(ctx)
		failed <- err
	}()
	require.Eventually(t, func() bool { _, err := os.Stat(began); return err == nil }, 30*time.Second, 5*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	child, err := os.ReadFile(began)
	require.NoError(t, err)
	assert.Eventually(t, func() bool {
		state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(child)) + "/stat")
		return err != nil || strings.Contains(string(state), ") Z ")
	}, 30*time.Second, 5*time.Millisecond, "the command's own child is still running")
}

func TestCommandsOfDSNAreMasked(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"exec:/bin/dsn":                 "exec:/bin/dsn",
		"exec:/bin/dsn --token c4n4ry":  "exec:/bin/dsn " + mask,
		`exec:["/bin/dsn", "c4n4ry"]`:   "exec:/bin/dsn " + mask,
		`exec:["/bin/dsn", "c4n4ry"`:    "exec:" + mask,
		"exec:":                         "exec:" + mask,
		"exec:/bin/dsn\t\n c4n4ry more": "exec:/bin/dsn " + mask,
	} {
		assert.Equal(t, want, NewDSN(text).String(), text)
	}
	value, err := NewDSN("exec:echo postgres://db/shop").Reveal(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "postgres://db/shop", value)
}

func TestCommandsAreValidated(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"", "[]", `[""]`, `["c4n4ry`, `[1]`} {
		for key, content := range map[string]string{
			"postgres.dsn": "postgres: {dsn: 'exec:" + line + "'}\n", "otlp.headers": "otlp: {headers: 'exec:" + line + "'}\n",
		} {
			_, err := Load(write(t, content))
			require.ErrorContains(t, err, key)
			assert.NotContains(t, err.Error(), canary)
		}
	}
}
