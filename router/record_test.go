package router

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/IBM/sarama"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/testserver"
)

// FuzzRecord compares the streamer's records with those of another
// implementation and reads them back.
func FuzzRecord(f *testing.F) {
	f.Add(int64(0), []byte("key"), []byte("value"), []byte("name"), []byte("header"), uint8(1))
	f.Add(int64(-1), []byte(nil), []byte(nil), []byte("n"), []byte(nil), uint8(0))
	f.Add(int64(1<<40), []byte{}, bytes.Repeat([]byte("x"), 70_000), []byte{}, bytes.Repeat([]byte("y"), 200), uint8(90))
	f.Fuzz(func(t *testing.T, delta int64, key, value, name, text []byte, count uint8) {
		delta %= 1 << 50
		list := make([]sarama.RecordHeader, count)
		want := kmsg.Record{TimestampDelta64: delta, OffsetDelta: int32(count), Key: key, Value: value}
		for i := range list {
			list[i] = sarama.RecordHeader{Key: name, Value: text}
			want.Headers = append(want.Headers, kmsg.Header{Key: string(name), Value: text})
		}
		if name == nil { // the other implementation has no missing name
			return
		}
		got := appendRecord(nil, delta, int64(count), key, value, encodeHeaders(list))
		want.Length = int32(len(got) - len(lengthOf(got)))
		require.Equal(t, want.AppendTo(nil), got)
		r, err := parseRecord(got)
		require.NoError(t, err)
		assert.Equal(t, delta, r.TimestampDelta.Milliseconds())
		assert.EqualValues(t, count, r.OffsetDelta)
		assert.Equal(t, key, r.Key)
		assert.Equal(t, value, r.Value)
		require.Len(t, r.Headers, int(count))
		for _, h := range r.Headers {
			assert.Equal(t, name, h.Key)
			assert.Equal(t, text, h.Value)
		}
	})
}

// lengthOf returns the length field at the front of a record.
func lengthOf(record []byte) []byte {
	for i, b := range record {
		if b < 0x80 {
			return record[:i+1]
		}
	}
	return record
}

func FuzzParseRecord(f *testing.F) {
	f.Add(appendRecord(nil, 1, 2, []byte("k"), []byte("v"), encodeHeaders([]sarama.RecordHeader{{Key: []byte("a"), Value: []byte("b")}})))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := parseRecord(data); err != nil {
			assert.Nil(t, r)
			require.ErrorIs(t, err, errBadRecord)
		}
	})
}

// TestCompressor checks that compressed data reads back unchanged, batch after
// batch in the same memory.
func TestCompressor(t *testing.T) {
	t.Parallel()
	for name, level := range map[string]int{"": 0, "lz4": 0, "snappy": 0, "gzip": 9, "zstd": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := compressor{codec: codecOf(ProducerConfig{Compression: name, CompressionLevel: level})}
			for range 2 {
				c.reset()
				var parts [][]byte
				for i := range 3 {
					part, err := c.compress(bytes.Repeat([]byte{byte('a' + i)}, 100_000))
					require.NoError(t, err)
					parts = append(parts, part)
				}
				for i, part := range parts {
					assert.Equal(t, name != "", len(part) < 100_000)
					assert.Equal(t, bytes.Repeat([]byte{byte('a' + i)}, 100_000), decompressed(t, c.codec, part))
				}
			}
		})
	}
}

// TestCompressorSizes checks that data of any size and density reads back
// unchanged and takes little more space than before.
func TestCompressorSizes(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{})
	for _, name := range []string{"lz4", "snappy", "gzip", "zstd"} {
		c := compressor{codec: codecOf(ProducerConfig{Compression: name})}
		for _, size := range []int{0, 1, 5, 100, lz4Block - 1, lz4Block, lz4Block + 1, 3 * lz4Block, 1<<20 + 7} {
			for _, dense := range []bool{false, true} {
				data := bytes.Repeat([]byte("abcdefgh-"), size/9+1)[:size]
				if dense {
					_, _ = random.Read(data) // never fails
				}
				c.reset()
				compressed, err := c.compress(data)
				require.NoError(t, err)
				assert.LessOrEqual(t, len(compressed), size+size/100+64)
				assert.True(t, bytes.Equal(data, decompressed(t, c.codec, compressed)), "%s of %d bytes", name, size)
			}
		}
	}
}

// TestCompressorHardlyCompressible uses data like JSON with long random values,
// which hardly becomes smaller.
func TestCompressorHardlyCompressible(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{"lz4", "snappy", "zstd"} {
		c := compressor{codec: codecOf(ProducerConfig{Compression: name})}
		for i := 0; i < 300; i += testserver.Step(7) {
			var data []byte
			for size := random.IntN(400 << 10); len(data) < size; {
				data = fmt.Appendf(data, `{"n": %d, "x": "`, i)
				for range random.IntN(4000) {
					data = append(data, byte('a'+random.IntN(60)))
				}
				data = append(data, `"}`...)
			}
			if i%10 == 0 {
				c.reset()
			}
			compressed, err := c.compress(data)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, decompressed(t, c.codec, compressed)), "%s of %d bytes", name, len(data))
		}
	}
}

func decompressed(t *testing.T, c codec, data []byte) (plain []byte) {
	t.Helper()
	var err error
	switch c.codec {
	case sarama.CompressionLZ4:
		plain, err = io.ReadAll(lz4.NewReader(bytes.NewReader(data)))
	case sarama.CompressionGZIP:
		var r *gzip.Reader
		r, err = gzip.NewReader(bytes.NewReader(data))
		require.NoError(t, err)
		plain, err = io.ReadAll(r)
	case sarama.CompressionZSTD:
		var r *zstd.Decoder
		r, err = zstd.NewReader(bytes.NewReader(data))
		require.NoError(t, err)
		defer r.Close()
		plain, err = io.ReadAll(r)
	case sarama.CompressionSnappy:
		plain, err = xerial.Decode(data)
	default:
		plain = data
	}
	require.NoError(t, err)
	return plain
}
