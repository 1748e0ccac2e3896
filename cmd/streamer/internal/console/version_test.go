package console

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	const commit = "633d705e8b1c2f0d9a7b"
	for name, c := range map[string]struct {
		released, module, revision, want string
	}{
		"release":                    {"0.1.0", "(devel)", commit, "0.1.0 (633d705e8b1c)"},
		"release without repository": {"0.1.0", "(devel)", "", "0.1.0"},
		"release, also tagged":       {"0.1.0", "v0.1.0", commit, "0.1.0 (633d705e8b1c)"},
		"go install of a tag":        {"", "v0.1.0", "", "0.1.0"},
		"build of a tag":             {"", "v0.1.0", commit, "0.1.0 (633d705e8b1c)"},
		"build between tags":         {"", "v0.1.1-0.20261130143951-633d705e8b1c", commit, "0.1.1-0.20261130143951-633d705e8b1c"},
		"build without a version":    {"", "(devel)", commit, "development (633d705e8b1c)"},
		"nothing known":              {"", "", "", "development"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			info := &debug.BuildInfo{Main: debug.Module{Version: c.module}}
			if c.revision != "" {
				info.Settings = []debug.BuildSetting{{Key: "vcs.revision", Value: c.revision}}
			}
			assert.Equal(t, c.want, versionOf(c.released, info))
		})
	}
}
