package archtest

import (
	"encoding/json"
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
	runs      = regexp.MustCompile("`(?:[A-Z_]+=\\S+ )*go test (\\./\\S+) [^`]*?-run (?:'([^'`]+)'|([^\\s`]+))")
	plays     = regexp.MustCompile("`make faults [^`]*?FAULTS=(?:\"([^\"`]+)\"|([^\\s`…]+))")
	takesAway = regexp.MustCompile("`make faults-selftest` \\(([^)]+)\\)")
	declares  = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w*)\(`)
	named     = regexp.MustCompile("`([^`]+)`")
)

// testsOf returns the names of the tests in a package's folder.
func testsOf(t *testing.T, folder string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", folder, "*_test.go"))
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, found := range declares.FindAllStringSubmatch(string(text), -1) {
			names = append(names, found[1])
		}
	}
	return names
}

// faultsPlayed returns the group and name of each fault of the last run.
func faultsPlayed(t *testing.T) (names []string) {
	t.Helper()
	text, err := os.ReadFile("../../e2e/faults/results.json")
	require.NoError(t, err)
	var results []struct{ Group, Fault string }
	require.NoError(t, json.Unmarshal(text, &results))
	for _, r := range results {
		names = append(names, r.Group+": "+r.Fault)
	}
	return names
}

// holds reports whether one of the names contains a part.
func holds(names []string, part string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, part) })
}

// unknownTests returns what a page's commands want to run and no test matches.
func unknownTests(t *testing.T, page string) (commands int, unknown []string) {
	t.Helper()
	for _, found := range runs.FindAllStringSubmatch(page, -1) {
		commands++
		for name := range strings.SplitSeq(found[2]+found[3], "|") {
			pattern, err := regexp.Compile(name)
			require.NoError(t, err, found[0])
			if name != "^$" && !slices.ContainsFunc(testsOf(t, found[1]), pattern.MatchString) {
				unknown = append(unknown, name+" in "+found[1])
			}
		}
	}
	return commands, unknown
}

// Every test, fault and mutation that a page names as evidence exists.
func TestEvidence(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	mutations, err := os.ReadFile("../mutation/mutation.go")
	require.NoError(t, err)
	faults, commands := faultsPlayed(t), 0
	for _, path := range append(pages, "../../README.md", "../../CONTRIBUTING.md") {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		page := strings.ReplaceAll(string(text), `\|`, "|") // as tables write it
		tests, unknown := unknownTests(t, page)
		assert.Empty(t, unknown, path)
		played := plays.FindAllStringSubmatch(page, -1)
		for _, found := range played {
			for part := range strings.SplitSeq(found[1]+found[2], ",") {
				assert.True(t, holds(faults, part), "%s: no fault is called %q", path, part)
			}
		}
		for _, found := range takesAway.FindAllStringSubmatch(page, -1) {
			for _, name := range named.FindAllStringSubmatch(found[1], -1) {
				assert.Contains(t, string(mutations), `"`+name[1]+`"`, path)
			}
		}
		commands += tests + len(played)
	}
	assert.Greater(t, commands, 50, "the patterns find what pages name")
}
