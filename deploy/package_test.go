package deploy_test

import (
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/config"
)

// The configuration that the packages install is valid once the two values that
// it asks for are given.
func TestPackagedConfiguration(t *testing.T) {
	t.Parallel()
	load := func(environ ...string) error {
		_, err := config.Load(config.Options{
			File: filepath.Join(root, "deploy/package/streamer.yaml"), FileExplicit: true, Environ: environ,
		})
		return err
	}
	require.NoError(t, load("STREAMER_POSTGRES_DSN=postgres://streamer@db.example.com/shop", "STREAMER_KAFKA_BROKERS=kafka.example.com:9092"))
	err := load()
	require.Error(t, err)
	assert.Contains(t, err.Error(), "kafka.brokers", "a service that was not configured says what is missing")
}

// Chart and changelog name the same version.
func TestVersionsAgree(t *testing.T) {
	t.Parallel()
	headings := regexp.MustCompile(`(?m)^## (\S+)`).FindAllStringSubmatch(readFile(t, "CHANGELOG.md"), -1)
	require.GreaterOrEqual(t, len(headings), 2)
	assert.Equal(t, "Unreleased", headings[0][1])
	chart := readYAML[struct {
		Version    string `yaml:"version"`
		AppVersion string `yaml:"appVersion"`
	}](t, "deploy/helm/streamer/Chart.yaml")
	assert.Equal(t, headings[1][1], chart.Version)
	assert.Equal(t, headings[1][1], chart.AppVersion)
}
