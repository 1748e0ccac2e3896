package router

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/IBM/sarama"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// codec is how batches are compressed.
type codec struct {
	codec sarama.CompressionCodec
	level int
}

func codecOf(config ProducerConfig) codec {
	codecs := map[string]sarama.CompressionCodec{
		"gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}
	level := config.CompressionLevel
	if level == 0 {
		level = sarama.CompressionLevelDefault
	}
	return codec{codec: codecs[config.Compression], level: level}
}

// compressor compresses batches with the same libraries as sarama, into memory
// that it keeps. It belongs to one goroutine.
type compressor struct {
	codec
	buffer  bytes.Buffer
	lz4     lz4.Compressor
	gzip    *gzip.Writer
	zstd    *zstd.Encoder
	scratch []byte // for the codecs that do not write into a buffer
}

// reset frees the memory of all results. A buffer that one exceptional request
// made too large is replaced by a buffer of the size that was needed. A series
// of such requests then does not grow it from the start each time.
func (c *compressor) reset() {
	const kept = maxRequestBytes * 3 / 2
	if used := c.buffer.Len(); c.buffer.Cap() > kept {
		c.buffer = bytes.Buffer{}
		c.buffer.Grow(min(used+used/8, kept))
	}
	c.buffer.Reset()
}

// compress returns the compressed data, which is valid until reset.
func (c *compressor) compress(data []byte) ([]byte, error) {
	if c.codec.codec == sarama.CompressionNone {
		return data, nil
	}
	start := c.buffer.Len()
	if err := c.write(data); err != nil {
		return nil, fmt.Errorf("compress record batch with %s: %w", c.codec.codec, err)
	}
	return c.buffer.Bytes()[start:], nil // earlier results may have moved, but stay readable
}

func (c *compressor) write(data []byte) (err error) {
	switch c.codec.codec {
	case sarama.CompressionLZ4:
		return c.writeLZ4(data)
	case sarama.CompressionGZIP:
		if c.gzip == nil {
			if c.gzip, err = gzip.NewWriterLevel(nil, c.gzipLevel()); err != nil {
				return err
			}
		}
		c.gzip.Reset(&c.buffer)
		if _, err := c.gzip.Write(data); err != nil {
			return err
		}
		return c.gzip.Close()
	case sarama.CompressionZSTD:
		if c.zstd == nil {
			if c.zstd, err = zstd.NewWriter(nil, zstd.WithZeroFrames(true),
				zstd.WithEncoderLevel(c.zstdLevel()), zstd.WithEncoderConcurrency(1)); err != nil {
				return err
			}
		}
		c.scratch = c.zstd.EncodeAll(data, c.scratch[:0])
	default:
		c.scratch = xerial.Encode(c.scratch[:0], data)
	}
	_, err = c.buffer.Write(c.scratch)
	return err
}

// The parts of an LZ4 frame as Kafka's own clients write it. Blocks are
// independent, of up to 64 KiB, and without checksums, because the record batch
// has its own. See https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md.
const (
	lz4Header    = "\x04\x22\x4d\x18\x60\x40\x82"
	lz4End       = "\x00\x00\x00\x00"
	lz4Block     = 64 << 10
	lz4AsItIs    = 1 << 31 // flag of the block's size: it is not compressed
	lz4BlockSize = 4
)

// writeLZ4 writes a frame directly into the buffer. The library's own writer
// copies everything twice and computes a checksum.
func (c *compressor) writeLZ4(data []byte) error {
	c.buffer.WriteString(lz4Header)
	for block := range slices.Chunk(data, lz4Block) {
		// With less space than the worst case needs, the library may fail.
		room := lz4BlockSize + lz4.CompressBlockBound(len(block))
		c.buffer.Grow(room)
		space := c.buffer.AvailableBuffer()[:room]
		n, err := c.lz4.CompressBlock(block, space[lz4BlockSize:])
		if err != nil {
			return err
		}
		var flag uint32
		if n == 0 || n >= len(block) {
			n, flag = copy(space[lz4BlockSize:], block), lz4AsItIs
		}
		binary.LittleEndian.PutUint32(space, uint32(n)|flag)
		c.buffer.Write(space[:lz4BlockSize+n])
	}
	c.buffer.WriteString(lz4End)
	return nil
}

func (c *compressor) gzipLevel() int {
	if c.level == sarama.CompressionLevelDefault {
		return gzip.DefaultCompression
	}
	return c.level
}

func (c *compressor) zstdLevel() zstd.EncoderLevel {
	if c.level == sarama.CompressionLevelDefault {
		return zstd.SpeedDefault
	}
	return zstd.EncoderLevelFromZstd(c.level)
}
