package report

import (
	"fmt"
	"math"
	"strconv"
)

// number writes a value with three significant digits and separated thousands.
func number(v float64) string {
	switch magnitude := math.Abs(v); {
	case v == 0:
		return "0"
	case magnitude < 0.01:
		return strconv.FormatFloat(v, 'g', 2, 64)
	case magnitude < 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case magnitude < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	text := strconv.FormatInt(int64(math.Round(v)), 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		if text[i-1] != '-' {
			text = text[:i] + "," + text[i:]
		}
	}
	return text
}

// String writes the median, and the extremes if there was more than one round.
func (s Spread) String() string {
	switch s.Rounds {
	case 0:
		return "–"
	case 1:
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median), number(s.Min), number(s.Max))
}
