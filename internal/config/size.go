package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. As text it is a plain number or a number and a
// unit: "1048588", "512KiB", "1MiB", "2GiB".
type Size int64

var sizeUnits = []struct {
	name  string
	bytes Size
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

var errSize = errors.New("write a number of bytes, or a whole number with the unit B, KiB, MiB or GiB, such as 512KiB")

// ParseSize reads the text form. Its errors do not repeat the text.
func ParseSize(text string) (Size, error) {
	number, unit := strings.TrimSpace(text), Size(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/int64(unit) {
		return 0, errSize
	}
	return Size(n) * unit, nil
}

// String returns the exact text form with the largest unit that divides the
// size; ParseSize reads it back.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if u.bytes > 1 && s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText returns the same as String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what ParseSize reads.
func (s *Size) UnmarshalText(text []byte) error {
	size, err := ParseSize(string(text))
	if err == nil {
		*s = size
	}
	return err
}
