package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
)

// The chart of a release installs the image of that release.
func TestPack(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	require.NoError(t, run([]string{"../../helm/streamer", "1.2.3", folder}))
	c, err := loader.Load(filepath.Join(folder, "streamer-1.2.3.tgz"))
	require.NoError(t, err)
	assert.Equal(t, "1.2.3", c.Metadata.Version)
	assert.Equal(t, "1.2.3", c.AppVersion())
	assert.NotEmpty(t, c.Templates)
}

func TestPackNeedsAVersion(t *testing.T) {
	t.Parallel()
	require.Error(t, run([]string{"../../helm/streamer", "", t.TempDir()}))
}
