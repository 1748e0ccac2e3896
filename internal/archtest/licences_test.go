package archtest

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// permissive are the licences that a binary under Apache-2.0 may include with
// no condition other than naming them. Each is identified by a sentence that
// only this licence has.
var permissive = map[string]*regexp.Regexp{
	"Apache-2.0": regexp.MustCompile(`Apache License\s+Version 2\.0, January 2004`),
	"MIT":        regexp.MustCompile(`Permission is hereby granted, free of charge, to any person obtaining a copy`),
	"BSD":        regexp.MustCompile(`Redistribution and use in source and binary forms, with or without modification`),
	"MPL-2.0":    regexp.MustCompile(`Mozilla Public License, version 2\.0`), // unmodified
	"ISC":        regexp.MustCompile(`Permission to use, copy, modify, and(/or)? distribute this software for any purpose`),
}

// linked returns the modules in the binary, with their folders.
func linked(t *testing.T) map[string]string {
	t.Helper()
	modules := map[string]string{}
	for _, p := range list(t, "-deps", "./cmd/streamer") {
		if p.Module != nil && !p.Module.Main {
			modules[p.Module.Path] = p.Module.Dir
		}
	}
	return modules
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying)(\.(md|txt))?$`)

// Everything linked into the binary has a licence that allows it.
func TestLicences(t *testing.T) {
	t.Parallel()
	modules := linked(t)
	assert.Greater(t, len(modules), 10)
	for path, folder := range modules {
		entries, err := os.ReadDir(folder)
		require.NoError(t, err)
		i := slices.IndexFunc(entries, func(e os.DirEntry) bool { return licenceFile.MatchString(e.Name()) })
		if !assert.GreaterOrEqual(t, i, 0, "module %s has no licence", path) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, entries[i].Name()))
		require.NoError(t, err)
		words := strings.Join(strings.Fields(string(text)), " ")
		known := slices.ContainsFunc(
			slices.Collect(maps.Values(permissive)),
			func(sentence *regexp.Regexp) bool { return sentence.MatchString(words) },
		)
		assert.True(t, known, "the licence of module %s does not allow linking it: see %s", path, filepath.Join(folder, entries[i].Name()))
	}
}
