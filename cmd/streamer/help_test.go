package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/internal/goldentest"
)

func TestHelp(t *testing.T) {
	t.Parallel()
	commands := []string{
		"", "init", "import", "import debezium", "take-over", "take-over debezium", "take-over poller",
		"give-back", "give-back debezium",
		"run", "setup", "doctor", "status", "preview", "tail", "find", "verify", "replay",
		"dead-letters", "dead-letters list", "dead-letters show", "dead-letters retry", "dead-letters drop",
		"checkpoint", "checkpoint show", "checkpoint set", "config", "health", "completion", "complete", "man", "version",
	}
	for _, name := range commands {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := execute(t, nil, append(strings.Fields(name), "--help")...)
			assert.Zero(t, got.code)
			assert.Empty(t, got.stderr)
			goldentest.Equal(t, "help/"+strings.ReplaceAll("streamer "+name, " ", "-"), got.stdout)
			hasExample := strings.Contains(got.stdout, "Example:") || strings.Contains(got.stdout, "Examples:")
			assert.True(t, hasExample || name == "", "the help of every command has an example")
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for name, arguments := range map[string][]string{
		"unknown command":    {"dance"},
		"no command":         {},
		"unknown flag":       {"status", "--loud"},
		"set without value":  {"config", "--set", "kafka.topic"},
		"set of unknown key": {"config", "--set", "kafka.topik=x"},
		"from":               {"tail", "--from", "yesterday"},
		"timeout":            {"setup", "--timeout", "1ms"},
		"two forms":          {"config", "--json", "--schema"},
		"missing file":       {"config", "--config", "/does/not/exist.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := execute(t, nil, arguments...)
			assert.Equal(t, exitUsage, got.code, got.stderr)
			assert.Contains(t, got.stderr, "streamer: ")
		})
	}
}

func TestUsageNamesRemedy(t *testing.T) {
	t.Parallel()
	for remedy, with := range map[string]string{"count the rows with `streamer verify`": "--dry-run", "use --missing alone": "--missing"} {
		got := execute(t, nil, "replay", "--from-table", with)
		assert.Equal(t, exitUsage, got.code)
		assert.Contains(t, got.stderr, "\nfix: "+remedy)
	}
}
