package router

import (
	"bytes"
	"fmt"

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

// compressor compresses batches with the same libraries and settings as sarama,
// into memory that it keeps. It belongs to one goroutine.
type compressor struct {
	codec
	buffer  bytes.Buffer
	lz4     *lz4.Writer
	gzip    *gzip.Writer
	zstd    *zstd.Encoder
	scratch []byte // for the codecs that do not write into a buffer
}

// reset makes the memory of all results free again.
func (c *compressor) reset() {
	const kept = 4 << 20
	if c.buffer.Cap() > kept {
		c.buffer = bytes.Buffer{}
	}
	c.buffer.Reset()
}

// compress returns data compressed, valid until reset.
func (c *compressor) compress(data []byte) ([]byte, error) {
	if c.codec.codec == sarama.CompressionNone {
		return data, nil
	}
	start := c.buffer.Len()
	if err := c.write(data); err != nil {
		return nil, fmt.Errorf("compress record batch with %s: %w", c.codec.codec, err)
	}
	return c.buffer.Bytes()[start:], nil // what came before may have moved, and is still readable
}

func (c *compressor) write(data []byte) (err error) {
	switch c.codec.codec {
	case sarama.CompressionLZ4:
		if c.lz4 == nil {
			c.lz4 = lz4.NewWriter(nil)
			if err := c.lz4.Apply(lz4.BlockSizeOption(lz4.Block64Kb)); err != nil {
				return err
			}
		}
		c.lz4.Reset(&c.buffer)
		return writeAll(c.lz4, data)
	case sarama.CompressionGZIP:
		if c.gzip == nil {
			if c.gzip, err = gzip.NewWriterLevel(nil, c.gzipLevel()); err != nil {
				return err
			}
		}
		c.gzip.Reset(&c.buffer)
		return writeAll(c.gzip, data)
	case sarama.CompressionZSTD:
		if c.zstd == nil {
			if c.zstd, err = zstd.NewWriter(nil, zstd.WithZeroFrames(true), zstd.WithEncoderLevel(c.zstdLevel()), zstd.WithEncoderConcurrency(1)); err != nil {
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

// writeAll writes data and the end.
func writeAll(w interface {
	Write(p []byte) (int, error)
	Close() error
}, data []byte,
) error {
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Close()
}
