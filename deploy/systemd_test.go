package deploy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/config"
)

// unit returns the settings of a section, without comments.
func unit(t *testing.T, section string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("systemd", "streamer.service"))
	require.NoError(t, err)
	settings, here := map[string][]string{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "", strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			here = strings.Trim(line, "[]")
		default:
			name, value, ok := strings.Cut(line, "=")
			require.True(t, ok, line)
			if here == section {
				settings[name] = append(settings[name], value)
			}
		}
	}
	return settings
}

// The unit fits the program. It notifies, it allows as long to stop as the
// program is configured to drain by default, and its exit codes have the
// documented meaning.
func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	service := unit(t, "Service")
	assert.Equal(t, []string{"notify"}, service["Type"])
	assert.Equal(t, []string{"2 3"}, service["RestartPreventExitStatus"])
	assert.Equal(t, []string{"on-failure"}, service["Restart"])
	for _, hardening := range []string{
		"NoNewPrivileges", "PrivateTmp", "ProtectHome",
		"LockPersonality", "MemoryDenyWriteExecute", "RestrictSUIDSGID",
	} {
		assert.Equal(t, []string{"yes"}, service[hardening], hardening)
	}
	assert.Equal(t, []string{"strict"}, service["ProtectSystem"])
	patience, err := time.ParseDuration(service["TimeoutStopSec"][0] + "s")
	require.NoError(t, err)
	assert.Greater(t, patience, 3*config.Default().Shutdown.DrainTimeout)
	command := []string{"/usr/bin/streamer run --config /etc/streamer/streamer.yaml"}
	assert.Equal(t, command, service["ExecStart"], "where the packages put both")
	assert.Contains(t, unit(t, "Unit")["After"], "network-online.target")
}
