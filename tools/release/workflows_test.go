package release

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/rhysd/actionlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../.." // of the repository

func workflows(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, ".github/workflows/*.yml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

// actionlint finds nothing: syntax, expressions, and shellcheck where it is
// installed.
func TestWorkflows(t *testing.T) {
	t.Parallel()
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{Shellcheck: "shellcheck"})
	require.NoError(t, err)
	found, err := linter.LintFiles(workflows(t), nil)
	require.NoError(t, err)
	for _, problem := range found {
		assert.Fail(t, problem.Error())
	}
}

var use = regexp.MustCompile(`uses: (\S+)(.*)`)

// What runs with the rights of a release is pinned by its commit, and the
// comment says which version that is.
func TestActionsArePinned(t *testing.T) {
	t.Parallel()
	for _, file := range workflows(t) {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, step := range use.FindAllStringSubmatch(string(content), -1) {
			assert.Regexp(t, `@[0-9a-f]{40}$`, step[1], file)
			assert.Regexp(t, `^ # v[0-9.]+$`, step[2], file)
		}
	}
}
