package kafka

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrInvalidConfig matches every error about a Config or a URL with errors.Is.
var ErrInvalidConfig = errors.New("invalid Kafka configuration")

// Config configures a Sink.
type Config struct {
	// Brokers are addresses (host:port) of some brokers of the cluster. Required.
	Brokers []string

	// ClientID is the name of the relay in Kafka's logs, quotas and metrics. Defaults to "signalbox".
	ClientID string

	// TLS encrypts connections. Defaults to none.
	TLS *tls.Config

	// SASL authenticates connections. Defaults to none.
	SASL *SASL

	// Compression is that of batches: "none", "gzip", "snappy", "lz4" or "zstd". Defaults to "snappy".
	Compression string

	// MaxMessageBytes bounds messages, as Kafka counts them before compression: key, value, headers and some 100 bytes. A larger one becomes a dead
	// letter. Defaults to the topic's max.message.bytes, or to 1,000,012 where that may not be read. If both are known, the smaller one counts.
	MaxMessageBytes int

	// MaxBufferedRecords and MaxBufferedBytes are how much may be in flight; Send waits while it is as much. Default to 10,000 and 64 MiB.
	MaxBufferedRecords int
	MaxBufferedBytes   int

	// AutoTopicCreation creates a topic that does not exist, with that many partitions and the cluster's default of replicas. Defaults to
	// 0: an unknown topic is an outage.
	AutoTopicCreation int

	// Options are further options of the client, such as kgo.ProducerLinger, which is a millisecond here. Those that would lose messages or
	// their order are overridden or refused. Defaults to none.
	Options []kgo.Opt

	// Logger receives a line when Kafka has lost records that it acknowledged. Defaults to slog.Default().
	Logger *slog.Logger
}

// linger is how long a record waits for others of its partition. Windows bring them together, so a tenth of the client's default will do.
const linger = time.Millisecond

const (
	defaultMaxMessageBytes = 1_000_012 // Kafka's max.message.bytes is a little higher
	maxMessageBytes        = 64 << 20  // below what one request of the client may have
)

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(),
	"zstd": kgo.ZstdCompression(),
}

// withDefaults returns the configuration with its defaults, or says what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	c.ClientID = cmp.Or(c.ClientID, "signalbox")
	c.Compression = cmp.Or(c.Compression, "snappy")
	c.MaxBufferedRecords = cmp.Or(c.MaxBufferedRecords, 10_000)
	c.MaxBufferedBytes = cmp.Or(c.MaxBufferedBytes, 64<<20)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	_, known := codecs[c.Compression]
	switch {
	case len(c.Brokers) == 0:
		return c, errors.New("there are no brokers: give the address of one, such as localhost:9092")
	case !known:
		return c, fmt.Errorf("compression is %q, must be one of %s", c.Compression, strings.Join(slices.Sorted(maps.Keys(codecs)), ", "))
	case c.MaxMessageBytes != 0 && (c.MaxMessageBytes < 1024 || c.MaxMessageBytes > maxMessageBytes):
		return c, fmt.Errorf("MaxMessageBytes is %d, must be 1024 to %d", c.MaxMessageBytes, maxMessageBytes)
	case c.MaxBufferedRecords < 1:
		return c, fmt.Errorf("MaxBufferedRecords is %d, must be at least 1", c.MaxBufferedRecords)
	case c.MaxBufferedBytes < 1:
		return c, fmt.Errorf("MaxBufferedBytes is %d, must be at least 1", c.MaxBufferedBytes)
	case c.AutoTopicCreation < 0 || c.AutoTopicCreation > math.MaxInt32:
		return c, fmt.Errorf("AutoTopicCreation is %d, must be a number of partitions, or 0", c.AutoTopicCreation)
	}
	return c, nil
}

// clientOptions returns those of the client: the user's, then those that the sink relies on.
func (s *Sink) clientOptions() ([]kgo.Opt, error) {
	c := s.config
	opts := []kgo.Opt{
		kgo.ProducerBatchCompression(codecs[c.Compression], kgo.NoCompression()),
		kgo.MetadataMinAge(time.Second), // how soon a new leader is looked for again
		kgo.ProducerLinger(linger),
	}
	opts = append(opts, c.Options...)
	opts = append(opts,
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(c.ClientID),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.UniformBytesPartitioner(64<<10, true, true, nil)), // murmur2 of the key, as Java's; batches of those without
		kgo.ProducerBatchMaxBytesFn(s.batchBytes),
		kgo.MaxBufferedRecords(math.MaxInt), // Send keeps the bounds: its contexts end the waiting, and not the record
		kgo.MaxBufferedBytes(0),
		kgo.RecordRetries(math.MaxInt),
		kgo.RecordDeliveryTimeout(0),
		kgo.DefaultProduceTopic(""),
		kgo.UnknownTopicRetries(4),
		kgo.ProducerOnDataLossDetected(s.lost),
		kgo.WithHooks(hooks{s}),
	)
	if c.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(c.TLS.Clone()))
	}
	if c.SASL != nil {
		mechanism, err := c.SASL.mechanism()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.SASL(mechanism))
	}
	return opts, nil
}

// refused says which of the user's options may not be: the client has none that undoes them.
func refused(client *kgo.Client) error {
	for _, option := range []struct {
		is  any
		why string
	}{
		{kgo.DisableIdempotentWrite, "DisableIdempotentWrite would repeat and reorder messages"},
		{kgo.AllowIdempotentProduceCancellation, "AllowIdempotentProduceCancellation would repeat and reorder messages"},
		{kgo.StopProducerOnDataLossDetected, "StopProducerOnDataLossDetected would stop the relay until it is restarted"},
		{kgo.ManualFlushing, "ManualFlushing would send nothing"},
		{kgo.AllowAutoTopicCreation, "AllowAutoTopicCreation would hide wrong names of topics: use Config.AutoTopicCreation"},
	} {
		if set, _ := client.OptValue(option.is).(bool); set {
			return fmt.Errorf("option kgo.%s: remove it", option.why)
		}
	}
	if id, _ := client.OptValue(kgo.TransactionalID).(string); id != "" {
		return errors.New("option kgo.TransactionalID: remove it, since the relay sends nothing in transactions")
	}
	return nil
}
