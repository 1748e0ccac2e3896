// Package deploy_test checks the deployment files as far as possible without a
// container engine.
package deploy_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/outboxstream/streamer/examples/shop"
	"github.com/outboxstream/streamer/internal/config"
)

const root = ".." // of the repository; docker-compose.yml is relative to it

type composeFile struct {
	Services map[string]service `yaml:"services"`
	Volumes  map[string]any     `yaml:"volumes"`
}

type service struct {
	Image       string            `yaml:"image"`
	Build       build             `yaml:"build"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Ports       []string          `yaml:"ports"`
	Volumes     []string          `yaml:"volumes"`
	Profiles    []string          `yaml:"profiles"`
	Restart     string            `yaml:"restart"`
	DependsOn   map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	Healthcheck struct {
		Disable bool     `yaml:"disable"`
		Test    []string `yaml:"test"`
	} `yaml:"healthcheck"`
}

// build is a folder, or a folder and a target.
type build struct {
	Context string `yaml:"context"`
	Target  string `yaml:"target"`
}

func (b *build) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		return node.Decode(&b.Context)
	}
	type plain build
	return node.Decode((*plain)(b))
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	return string(content)
}

func readYAML[T any](t *testing.T, name string) (content T) {
	t.Helper()
	require.NoError(t, yaml.Unmarshal([]byte(readFile(t, name)), &content), name)
	return content
}

func TestCompose(t *testing.T) {
	t.Parallel()
	compose := readYAML[composeFile](t, "docker-compose.yml")
	require.ElementsMatch(t, []string{"postgres", "kafka", "setup", "streamer", "shop", "prometheus", "grafana"},
		slices.Collect(maps.Keys(compose.Services)))

	for name, s := range compose.Services {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireOrigin(t, s)
			for _, port := range s.Ports {
				assert.Regexp(t, `^127\.0\.0\.1:\d+:\d+$`, port, "published on this machine only")
			}
			for _, volume := range s.Volumes {
				source, _, _ := strings.Cut(volume, ":")
				if strings.HasPrefix(source, ".") {
					assert.FileExists(t, filepath.Join(root, source, firstFile(t, source)))
				} else {
					assert.Contains(t, compose.Volumes, source, "a named volume is declared")
				}
			}
			for needed, how := range s.DependsOn {
				requireDependency(t, compose.Services, needed, how.Condition)
			}
			if oneShot(s) {
				assert.True(t, s.Healthcheck.Disable, "a service that ends has no health")
			} else {
				assert.Greater(t, len(s.Healthcheck.Test), 1, "a health check")
			}
			requirePasswordsReplaceable(t, s)
		})
	}
}

// firstFile names one file in a mounted folder, and nothing for a mounted file.
func firstFile(t *testing.T, source string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, source))
	if err != nil || len(entries) == 0 {
		return ""
	}
	return entries[0].Name()
}

func oneShot(s service) bool { return s.Restart == "no" }

// requireOrigin requires a pinned image, or a stage that the Dockerfile has.
func requireOrigin(t *testing.T, s service) {
	t.Helper()
	if s.Image != "" {
		require.Regexp(t, `^[a-z/]+:v?\d+(\.\d+)*$`, s.Image, "a pinned image")
		return
	}
	require.Equal(t, ".", s.Build.Context)
	if s.Build.Target != "" {
		require.Regexp(t, `(?m)^FROM .* AS `+s.Build.Target+`$`, readFile(t, "Dockerfile"))
	}
}

// requireDependency requires a condition that the other service can meet.
func requireDependency(t *testing.T, services map[string]service, needed, condition string) {
	t.Helper()
	require.Contains(t, services, needed)
	if oneShot(services[needed]) {
		require.Equal(t, "service_completed_successfully", condition, needed)
	} else {
		require.Equal(t, "service_healthy", condition, needed)
	}
}

// requirePasswordsReplaceable requires passwords from the environment, with
// defaults that say what they are.
func requirePasswordsReplaceable(t *testing.T, s service) {
	t.Helper()
	for key, value := range s.Environment {
		if strings.Contains(key, "PASSWORD") {
			assert.Regexp(t, `^\$\{[A-Z_]+:-demo-[a-z]+\}$`, value, key)
		}
		assert.NotRegexp(t, `://[^/@]*:[^/@]*@`, value, "%s holds a password", key)
	}
}

func TestComposeServers(t *testing.T) {
	t.Parallel()
	services := readYAML[composeFile](t, "docker-compose.yml").Services

	t.Run("PostgreSQL decodes its WAL", func(t *testing.T) {
		t.Parallel()
		assert.Regexp(t, `^postgres:17`, services["postgres"].Image)
		assert.Contains(t, services["postgres"].Command, "wal_level=logical")
	})

	t.Run("Kafka tells containers and the host different addresses", func(t *testing.T) {
		t.Parallel()
		kafka := services["kafka"]
		assert.Regexp(t, `^apache/kafka:4\.`, kafka.Image)
		assert.Equal(t, "broker,controller", kafka.Environment["KAFKA_PROCESS_ROLES"])
		advertised := strings.Split(kafka.Environment["KAFKA_ADVERTISED_LISTENERS"], ",")
		assert.ElementsMatch(t, []string{"CONTAINERS://kafka:19092", "HOST://127.0.0.1:9092"}, advertised)
		assert.Contains(t, kafka.Ports, "127.0.0.1:9092:9092")
		for _, client := range []string{"setup", "streamer"} {
			assert.Equal(t, "kafka:19092", services[client].Environment["STREAMER_KAFKA_BROKERS"])
		}
	})

	t.Run("the streamer is configured by its own keys and by those of libpq", func(t *testing.T) {
		t.Parallel()
		for _, name := range []string{"setup", "streamer"} {
			for key := range services[name].Environment {
				assert.Regexp(t, `^(STREAMER_(POSTGRES|KAFKA)_[A-Z]+|PG[A-Z]+)$`, key)
			}
			assert.Contains(t, services[name].Volumes, "./deploy/compose/streamer.yaml:/etc/streamer/streamer.yaml:ro")
		}
		assert.Equal(t, []string{"CMD", "/streamer", "health"}, services["streamer"].Healthcheck.Test)
	})

	t.Run("monitoring is only there when asked for", func(t *testing.T) {
		t.Parallel()
		for name, s := range services {
			if name == "prometheus" || name == "grafana" {
				assert.Equal(t, []string{"monitoring"}, s.Profiles)
			} else {
				assert.Empty(t, s.Profiles, name)
			}
		}
	})
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	lines := strings.Split(readFile(t, "Dockerfile"), "\n")
	last := slices.IndexFunc(lines, func(l string) bool { return strings.HasSuffix(l, " AS streamer") })
	require.Positive(t, last)
	assert.Contains(t, lines[last], ":nonroot")
	final := lines[last:]
	assert.Contains(t, final, `ENTRYPOINT ["/streamer"]`)
	assert.Contains(t, final, `CMD ["run"]`)
	assert.Contains(t, strings.Join(final, "\n"), `CMD ["/streamer", "health"]`)
	assert.Len(t, slices.DeleteFunc(final, func(l string) bool { return !strings.HasPrefix(l, "FROM ") }), 1,
		"the streamer is the stage that is built by default")
	flags := regexp.MustCompile(`-s -w -X (\S+)=`)
	released, image := flags.FindStringSubmatch(readFile(t, ".goreleaser.yaml")), flags.FindStringSubmatch(strings.Join(lines, "\n"))
	require.NotEmpty(t, released)
	assert.Equal(t, released, image, "the image and the release are built alike")
	variable, ok := strings.CutPrefix(released[1], "github.com/outboxstream/streamer/")
	require.True(t, ok)
	source := readFile(t, strings.Replace(variable, ".version", "/version.go", 1))
	assert.Contains(t, source, "\nvar version string\n", "the linker ignores a wrong name")
	for _, line := range lines {
		if strings.HasPrefix(line, "FROM ") {
			assert.Regexp(t, `@sha256:[0-9a-f]{64} AS `, line, "pinned")
		}
		if source, found := strings.CutPrefix(line, "COPY "); found && !strings.HasPrefix(source, "--from") {
			names := strings.Fields(source)
			for _, name := range names[:len(names)-1] {
				_, err := os.Stat(filepath.Join(root, name))
				assert.NoError(t, err)
			}
		}
	}
}

func TestPrometheus(t *testing.T) {
	t.Parallel()
	type prometheus struct {
		Jobs []struct {
			Name    string `yaml:"job_name"`
			Targets []struct {
				Targets []string `yaml:"targets"`
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	jobs := readYAML[prometheus](t, "deploy/compose/prometheus.yml").Jobs
	require.Len(t, jobs, 1)
	assert.Equal(t, "streamer", jobs[0].Name)
	assert.Equal(t, []string{"streamer:9180"}, jobs[0].Targets[0].Targets)
}

func TestStreamerConfiguration(t *testing.T) {
	t.Parallel()
	compose := readYAML[composeFile](t, "docker-compose.yml")
	for _, name := range []string{"setup", "streamer"} {
		var environment []string
		for key, value := range compose.Services[name].Environment {
			environment = append(environment, key+"="+value)
		}
		loaded, err := config.Load(config.Options{
			File: filepath.Join(root, "deploy/compose/streamer.yaml"), FileExplicit: true, Environ: environment,
		})
		require.NoError(t, err, "every key exists and has a value that is accepted")
		assert.Equal(t, "0.0.0.0:9180", loaded.Config.HTTP.Listen, "Prometheus is in another container")
		assert.Equal(t, []string{"kafka:19092"}, loaded.Config.Kafka.Brokers)
		columns := loaded.Config.Outbox.Columns
		for _, column := range []string{columns.AggregateType, columns.Payload, columns.Time, columns.TraceParent} {
			assert.Regexp(t, `(?m)^    `+column+` `, shop.Schema)
		}
	}
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	type datasources struct {
		Datasources []struct {
			UID string `yaml:"uid"`
		} `yaml:"datasources"`
	}
	var dashboard struct {
		Panels []struct {
			Title      string
			Datasource struct{ UID string }
			Targets    []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(readFile(t, "deploy/compose/grafana/dashboards/streamer.json")), &dashboard))
	uid := readYAML[datasources](t, "deploy/compose/grafana/datasources/prometheus.yaml").Datasources[0].UID

	for _, panel := range dashboard.Panels {
		assert.Equal(t, uid, panel.Datasource.UID, panel.Title)
		require.NotEmpty(t, panel.Targets, panel.Title)
		for _, target := range panel.Targets {
			require.Contains(t, target.Expr, "streamer_", panel.Title)
		}
	}
}
