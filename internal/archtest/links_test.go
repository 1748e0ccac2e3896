package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	fenced  = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	punct   = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the anchors that GitHub generates from the headings of a page.
func anchors(page string) (all []string) {
	for _, h := range heading.FindAllStringSubmatch(page, -1) {
		text := link.ReplaceAllString(h[1], "]")
		all = append(all, strings.ReplaceAll(punct.ReplaceAllString(strings.ToLower(text), ""), " ", "-"))
	}
	return all
}

// Every link in the documentation leads to an existing file, and to an existing
// heading.
func TestLinks(t *testing.T) {
	t.Parallel()
	pages := map[string]string{}
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
			return filepath.SkipDir
		}
		if err == nil && filepath.Ext(path) == ".md" {
			var text []byte
			text, err = os.ReadFile(path)
			pages[filepath.Clean(path)] = fenced.ReplaceAllString(string(text), "")
		}
		return err
	}))
	assert.Greater(t, len(pages), 20)
	for path, page := range pages {
		for _, found := range link.FindAllStringSubmatch(page, -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			to := path
			if target != "" {
				to = filepath.Join(filepath.Dir(path), target)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s, which does not exist", path, found[1])
			}
			if anchor != "" {
				assert.True(t, slices.Contains(anchors(pages[to]), anchor), "%s links to %s, but there is no such heading", path, found[1])
			}
		}
	}
}
