package manual

import (
	"os"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
)

// program is a command line in small.
type program struct {
	Config string   `short:"c" placeholder:"FILE" help:"Configuration file."`
	Set    []string `short:"s" placeholder:"KEY=VALUE" sep:"none" help:"Set a key."`

	Tail struct {
		Topic []string `arg:"" optional:"" help:"Topics."`
		Form  string   `enum:"text,json" default:"text" help:"How to print, 'text' or .json."`
		Once  bool     `help:"Stop after one."`
		Debug bool     `hidden:""`
	} `cmd:"" help:"Follow the events."`
	Checkpoint struct {
		Show struct{} `cmd:"" help:"Print it."`
		Set  struct{} `cmd:"" help:"Replace it."`
	} `cmd:"" help:"Look at the position."`
	Secret     struct{}   `cmd:"" hidden:""`
	Completion Completion `cmd:"" help:"Print the script."`
	Complete   Complete   `cmd:"" hidden:""`
	Man        Page       `cmd:"" help:"Print the page."`
}

// played is set where the test binary plays streamer for a shell.
const played = "STREAMER_MANUAL_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(played) == "" {
		os.Exit(m.Run())
	}
	var p program
	line := kong.Parse(&p, kong.Name("streamer"))
	line.FatalIfErrorf(line.Run(console.Streams{Out: os.Stdout, Err: os.Stderr}))
}

func model(t *testing.T) *kong.Node {
	t.Helper()
	parser, err := kong.New(&program{}, kong.Name("streamer"), kong.Description("Publishes rows."))
	require.NoError(t, err)
	return parser.Model.Node
}
