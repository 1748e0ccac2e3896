package wire

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParseSequenceRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "0", "0000000000000000_00000001", "00000000000000000-0000001", "000000000000000g-00000001",
		"0000000000000000-0000000g", "0000000000000000-000000001", "+000000000000001-00000001",
	} {
		_, err := ParseSequence(text)
		assert.Error(t, err, text)
	}
}
