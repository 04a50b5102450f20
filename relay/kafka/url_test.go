package kafka_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/relay/kafka"
)

func TestFromURL(t *testing.T) {
	t.Parallel()
	u, err := url.Parse("kafka://relay@a:9092,b:9093?sasl=SCRAM-SHA-512&tls=true&server-name=kafka&compression=zstd&client-id=orders" +
		"&max-message-bytes=2000&max-buffered-records=3&max-buffered-bytes=4&auto-topic-creation=5&password-env=NAME")
	if err != nil {
		t.Fatal(err)
	}
	c, err := kafka.FromURL(u)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(c.Brokers, " ") != "a:9092 b:9093" || c.ClientID != "orders" || c.Compression != "zstd" || c.MaxMessageBytes != 2000 ||
		c.MaxBufferedRecords != 3 || c.MaxBufferedBytes != 4 || c.AutoTopicCreation != 5 {
		t.Errorf("%+v", c)
	}
	if c.TLS == nil || c.TLS.ServerName != "kafka" || c.SASL == nil || c.SASL.Mechanism != "SCRAM-SHA-512" || c.SASL.User != "relay" || c.SASL.Secret == nil {
		t.Errorf("TLS %+v, SASL %+v", c.TLS, c.SASL)
	}
	s, err := kafka.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestWrongURLs(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"nats://a:9092":                       `the scheme is "nats"`,
		"kafka://":                            "the address of a broker is empty",
		"kafka://a:1,,b:1":                    "the address of a broker is empty",
		"kafka://user:hunter2@a:1":            "it has a password: put it into the environment variable KAFKA_PASSWORD",
		"kafka://a:1/topic":                   "it has a path",
		"kafka://a:1?colour=red":              `there is no parameter "colour"`,
		"kafka://a:1?tls=true&tls=true":       "tls is given 2 times, give it once",
		"kafka://a:1?tls=maybe":               `tls is "maybe", must be true or false`,
		"kafka://a:1?tls=false&server-name=b": "tls is false, and other parameters",
		"kafka://a:1?ca=/nowhere":             "ca: open /nowhere",
		"kafka://a:1?cert=/nowhere":           "cert and key belong together",
		"kafka://a:1?max-message-bytes=many":  `max-message-bytes is "many", must be a number from 1`,
		"kafka://a:1?max-message-bytes=1":     "MaxMessageBytes is 1, must be",
		"kafka://a:1?compression=rar":         `compression is "rar"`,
		"kafka://u@a:1":                       "and no parameter sasl",
		"kafka://a:1?sasl=PLAIN":              "SASL has no User",
		"kafka://u@a:1?sasl=GSSAPI":           `SASL mechanism is "GSSAPI"`,
		"kafka://a:1?sasl=OAUTHBEARER&password-file=a&password-env=b": "both password-file and password-env",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = kafka.FromURL(u)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
