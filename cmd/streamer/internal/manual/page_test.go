package manual

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPage(t *testing.T) {
	t.Parallel()
	var page strings.Builder
	require.NoError(t, write(&page, model(t)))
	text := page.String()
	for _, line := range []string{
		".TH STREAMER 1",
		"Publishes rows.",
		".SS checkpoint show",
		`.SS tail [<topic> ...] [flags]`,
		`\fB\-\-form="text"\fR`,
		`How to print, \(aqtext\(aq or .json.`,
		"    source <(streamer completion bash)                # in \\(ti/.bashrc",
	} {
		assert.Contains(t, text, strings.TrimSpace(line))
	}
	assert.NotContains(t, text, "debug", "it is hidden")
	assert.NotContains(t, text, "secret", "it is hidden")
	assert.Less(t, strings.Index(text, ".SH COMMANDS"), strings.Index(text, ".SH EXIT STATUS"))
}

func TestText(t *testing.T) {
	t.Parallel()
	var p page
	p.text("One,\n.two.\n\nThree.\n\nExample:\n  a\n    b --c")
	assert.Equal(t, ".PP\nOne,\n\\&.two.\n.PP\nThree.\n.PP\nExample:\n.PP\n.RS 4\n.nf\na\n  b \\-\\-c\n.fi\n.RE\n", p.String())
}

// groff finds nothing to complain about.
func TestPageIsWellFormed(t *testing.T) {
	t.Parallel()
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not installed")
	}
	var page strings.Builder
	require.NoError(t, write(&page, model(t)))
	cmd := exec.CommandContext(t.Context(), groff, "-man", "-ww", "-z", "-Tutf8")
	cmd.Stdin = strings.NewReader(page.String())
	output, err := cmd.CombinedOutput()
	require.NoError(t, err)
	assert.Empty(t, string(output))
}
