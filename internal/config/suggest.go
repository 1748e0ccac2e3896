package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// suggestKey returns what to append to a message about an unknown key of the
// file.
func suggestKey(unknown string) string {
	if slices.Contains(keyPaths(root), unknown) {
		return ": write its parts as nested sections"
	}
	return didYouMean(nearest(unknown, keyPaths(root), "."))
}

// suggestFlag does the same for flags.
func suggestFlag(unknown string) string {
	if slices.Contains(keyPaths(root), unknown) {
		return ": it contains further keys: set those"
	}
	return didYouMean(nearest(unknown, keyPaths(root), "."))
}

// suggestEnvironment does the same for environment variables.
func suggestEnvironment(unknown string) string {
	var known []string
	for _, k := range root.settings() {
		if k.environment() == unknown {
			return ": set " + k.variable() + " for each entry"
		}
		known = append(known, k.environment())
	}
	return didYouMean(nearest(unknown, known, "_"))
}

func didYouMean(name string) string {
	if name == "" {
		return ""
	}
	return ": did you mean " + name + "?"
}

// keyPaths returns all paths below k, including sections and the keys of
// records.
func keyPaths(k *key) []string {
	var paths []string
	for _, c := range k.children {
		paths = append(paths, c.path)
		paths = append(paths, keyPaths(c)...)
	}
	return paths
}

var recordIndex = regexp.MustCompile(`\[\d+\]`)

// nearest returns the known name with the fewest edits to the unknown one, at
// most two, or one for every three letters of its last part; failing that, the
// only one that has the unknown name as its last part: a key in the wrong
// place.
func nearest(unknown string, known []string, separator string) string {
	unknown = strings.ReplaceAll(recordIndex.ReplaceAllString(unknown, "[]"), "-", "_")
	last := unknown[strings.LastIndex(unknown, separator)+1:]
	best, limit := "", min(max(2, len(last)/3)+1, len(last))
	for _, candidate := range known {
		if d := levenshtein.ComputeDistance(strings.ToLower(unknown), strings.ToLower(candidate)); d < limit {
			best, limit = candidate, d
		}
	}
	if best != "" {
		return best
	}
	for _, candidate := range known {
		if strings.HasSuffix(candidate, separator+last) {
			if best != "" {
				return ""
			}
			best = candidate
		}
	}
	return best
}
