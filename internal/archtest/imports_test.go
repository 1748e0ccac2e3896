package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/outboxstream/streamer/"

// Commands that others build on come first.
const (
	console      = "cmd/streamer/internal/console"
	site         = "cmd/streamer/internal/site"
	preview      = "cmd/streamer/internal/preview"
	status       = "cmd/streamer/internal/status"
	setup        = "cmd/streamer/internal/setup"
	deadletter   = "cmd/streamer/internal/deadletter"
	find         = "cmd/streamer/internal/find"
	verification = "cmd/streamer/internal/verification"
	replay       = "cmd/streamer/internal/replay"
	doctor       = "cmd/streamer/internal/doctor"
	scaffold     = "cmd/streamer/internal/scaffold"
	importer     = "cmd/streamer/internal/importer"
	takeover     = "cmd/streamer/internal/takeover"
	giveback     = "cmd/streamer/internal/giveback"
	manual       = "cmd/streamer/internal/manual"
	page         = "cmd/streamer/internal/page"
)

// mayImport lists, for each production package, the packages of this module
// that it may import. A package that is not listed here fails the test: if you
// add a package, decide its place.
var mayImport = map[string][]string{
	"internal/failure":   {},
	"internal/mutation":  {},
	"internal/pgname":    {},
	"internal/pgsession": {"internal/failure"},
	"internal/awsauth":   {"internal/failure"},
	"internal/wait":      {},
	"replication":        {"internal/failure", "internal/pgname", "internal/pgsession", "internal/wait"},
	"decoder":            {"internal/failure", "internal/pgname", "replication"},
	"checkpoint":         {"internal/failure", "internal/pgname", "internal/pgsession"},
	"router/kafka":       {"internal/failure", "internal/mutation", "internal/wait"},
	"router/wire":        {"replication"},
	"router": {
		"internal/failure", "internal/mutation", "internal/pgname", "replication", "decoder", "router/kafka", "router/wire",
	},
	"internal/predecessor": {"internal/failure", "checkpoint", "replication", "decoder", "router", "router/kafka"},
	"internal/pipeline": {
		"internal/failure", "internal/mutation", "internal/pgsession", "internal/wait", "internal/predecessor", "replication", "decoder",
		"checkpoint", "router", "router/kafka", "router/wire",
	},
	"internal/config":    {"internal/failure", "internal/pgname"},
	"internal/debezium":  {"internal/failure", "internal/pgname", "internal/config"},
	"internal/ops":       {"internal/failure", "internal/pipeline", "replication", "router"},
	"internal/telemetry": {"internal/failure", "router"},
	// Not the encoder and the decoder, which this package checks.
	"internal/verify": {"internal/failure", "internal/pgname", "replication", "router/kafka", "router/wire"},

	"internal/locate": {"internal/verify", "replication", "router/kafka"},

	console: {"internal/failure", "internal/config", "internal/ops", "replication"},
	site: {
		"internal/failure", "internal/awsauth", "internal/pgsession", "internal/wait", "internal/pipeline", "internal/config",
		"replication", "decoder", "checkpoint", "router", "router/kafka",
	},
	preview: {
		console, site, "internal/failure", "internal/config", "replication", "decoder", "checkpoint", "router", "router/kafka",
	},
	status: {
		console, site, "internal/failure", "internal/wait", "internal/pipeline", "internal/config", "internal/ops",
		"replication", "checkpoint",
	},
	setup:      {console, site, "internal/failure", "internal/pipeline", "internal/config", "replication", "decoder", "router/kafka"},
	deadletter: {console, site, "internal/failure", "internal/config", "replication", "decoder", "checkpoint", "router", "router/kafka"},
	verification: {
		console, site, "internal/failure", "internal/pipeline", "internal/config", "internal/locate", "internal/verify", "replication",
		"decoder", "checkpoint", "router/kafka",
	},
	find: {
		console, site, deadletter, status, "internal/failure", "internal/config", "internal/locate", "internal/verify", "replication",
		"decoder", "checkpoint", "router", "router/kafka", "router/wire",
	},
	replay: {
		console, site, verification, "internal/failure", "internal/wait", "internal/pipeline", "internal/config",
		"internal/ops", "replication", "checkpoint", "router",
	},
	doctor: {
		console, site, status, preview, "internal/failure", "internal/awsauth", "internal/pipeline", "internal/predecessor", "internal/config",
		"replication", "decoder", "checkpoint", "router", "router/kafka",
	},
	scaffold: {console, site, "internal/failure", "internal/config", "replication"},
	importer: {console, site, "internal/failure", "internal/config", "internal/debezium"},
	takeover: {
		console, site, "internal/failure", "internal/config", "internal/debezium", "internal/ops", "internal/pipeline", "internal/predecessor",
		"replication", "decoder", "checkpoint", "router", "router/kafka",
	},
	giveback: {
		console, site, "internal/failure", "internal/config", "internal/debezium", "internal/ops", "internal/pipeline", "internal/wait",
		"replication", "decoder", "checkpoint", "router",
	},
	manual: {console, "internal/config"},
	page:   {console, status, "internal/ops", "internal/pipeline", "replication"},
	"cmd/streamer": {
		console, site, preview, status, setup, deadletter, find, verification, replay, doctor, scaffold, importer, takeover, giveback, manual,
		page,
		"internal/failure", "internal/pipeline", "internal/config", "internal/ops", "internal/telemetry", "replication", "router", "router/kafka",
	},
}

// homes lists which packages may import a foreign module. Test servers and
// examples are independent clients and are exempt.
var homes = map[string][]string{
	"github.com/aws":                {"internal/awsauth"},
	"github.com/IBM/sarama":         {"router", "router/kafka"},
	"github.com/jackc/pgx/v5":       {"internal/pgsession", "replication", "checkpoint"},
	"github.com/jackc/pglogrepl":    {"replication", "checkpoint", "internal/pipeline"},
	"golang.org/x/text":             {"replication"},
	"github.com/cloudevents/sdk-go": {"router"},
	"github.com/alecthomas/kong":    {"cmd/streamer", manual, verification}, // the last uses the defaults of the command line
	"github.com/knadh/koanf":        {"internal/config"},
	"github.com/magiconair":         {"internal/debezium"},
	"github.com/prometheus":         {"internal/ops", "internal/telemetry", status},
	"go.opentelemetry.io":           {"internal/telemetry"},
	"github.com/twmb/franz-go":      {},
	"github.com/stretchr/testify":   {},
	"testing":                       {},
}

// outside are packages that are not part of the streamer binary.
var outside = []string{
	"examples/", "e2e", "deploy", "bench/", "internal/archtest", "internal/audit", "internal/awstest", "internal/goldentest",
	"internal/kafkatest", "internal/pgtest", "internal/proxytest", "internal/testserver",
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Module     *struct {
		Path, Dir string
		Main      bool
	}
}

func list(t *testing.T, arguments ...string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports,Deps,Module"}, arguments...)...)
	cmd.Dir = "../.."
	output, err := cmd.Output()
	require.NoError(t, err)
	var packages []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		if slices.ContainsFunc(outside, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			continue
		}
		allowed, known := mayImport[name]
		if !assert.True(t, known, "package %s has no place in mayImport", name) {
			continue
		}
		for _, imported := range p.Imports {
			if ours, ok := strings.CutPrefix(imported, module); ok {
				assert.Contains(t, allowed, ours, "%s must not import %s", name, ours)
			}
			for foreign, home := range homes {
				if imported == foreign || strings.HasPrefix(imported, foreign+"/") {
					assert.Contains(t, home, name, "%s must not import %s", name, imported)
				}
			}
		}
	}
}

// What only tests and the demo need must not be in the binary.
func TestBinaryLinksNoTestServers(t *testing.T) {
	t.Parallel()
	for _, dependency := range list(t, "./cmd/streamer")[0].Deps {
		for _, unwanted := range []string{
			"testing", "github.com/twmb/franz-go", "github.com/xi2/xz", "github.com/stretchr/testify",
			module + "internal/awstest", module + "internal/goldentest",
			module + "internal/pgtest", module + "internal/kafkatest", module + "internal/proxytest",
			module + "internal/testserver",
		} {
			assert.False(t, dependency == unwanted || strings.HasPrefix(dependency, unwanted+"/"), "the binary links %s", dependency)
		}
	}
}
