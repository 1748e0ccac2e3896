package failure

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClassOf(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	for name, test := range map[string]struct {
		err  error
		want Class
	}{
		"no error":                {nil, Transient},
		"an unmarked error":       {cause, Transient},
		"refused":                 {Refuse(cause), Refused},
		"misconfigured":           {Misconfigure(cause), Misconfigured},
		"a mark under a wrap":     {fmt.Errorf("wrap: %w", Refuse(cause)), Refused},
		"the outermost mark wins": {Retry(fmt.Errorf("wrap: %w", Refuse(cause))), Transient},
		"a mark in a join":        {errors.Join(cause, Misconfigure(cause)), Misconfigured},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, ClassOf(test.err))
		})
	}
}

func TestMarksKeepTheError(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	require.ErrorIs(t, Refuse(cause), cause)
	assert.Equal(t, "cause", Refuse(cause).Error())
	require.NoError(t, Refuse(nil))
}
