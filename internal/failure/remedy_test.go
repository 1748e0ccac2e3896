package failure

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAdvise(t *testing.T) {
	t.Parallel()
	cause := errors.New("slot is missing")
	advised := Advise(cause, "run `streamer setup %s`", "--topic x")
	assert.Equal(t, "slot is missing", advised.Error())
	require.ErrorIs(t, advised, cause)
	assert.Equal(t, "run `streamer setup --topic x`", Fix(advised))
	require.NoError(t, Advise(nil, "nothing"))
	assert.Empty(t, Fix(cause))
	assert.Empty(t, Fix(nil))
	assert.Equal(t, "100 %", Fix(Advise(cause, "100 %")), "no arguments, no format")
}

func TestReports(t *testing.T) {
	t.Parallel()
	one, two := Advise(errors.New("one"), "do 1"), Advise(errors.New("two"), "do 2")
	for name, test := range map[string]struct {
		err  error
		want []Report
	}{
		"no error":            {nil, nil},
		"without a remedy":    {errors.New("x"), []Report{{"x", ""}}},
		"wrapped":             {fmt.Errorf("start: %w", Refuse(one)), []Report{{"start: one", "do 1"}}},
		"one remedy, twice":   {fmt.Errorf("%w: %w", one, one), []Report{{"one: one", "do 1"}}},
		"a remedy in another": {Advise(fmt.Errorf("start: %w", one), "do 0"), []Report{{"start: one", "do 0; do 1"}}},
		"two in a format":     {fmt.Errorf("%w, then %w", one, two), []Report{{"one, then two", "do 1; do 2"}}},
		"a join":              {Refuse(errors.Join(one, nil, Misconfigure(two))), []Report{{"one", "do 1"}, {"two", "do 2"}}},
		"a join in a join":    {errors.Join(errors.Join(one, two), errors.New("x")), []Report{{"one", "do 1"}, {"two", "do 2"}, {"x", ""}}},
		"a join, wrapped":     {fmt.Errorf("not created: %w", errors.Join(one, two)), []Report{{"not created: one\ntwo", "do 1; do 2"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, Reports(test.err))
		})
	}
	assert.Equal(t, "one; fix: do 1", Reports(one)[0].String())
	assert.Equal(t, "x", Report{Problem: "x"}.String())
}
