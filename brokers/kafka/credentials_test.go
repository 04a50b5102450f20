package kafka_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	broker "github.com/signalbox-go/signalbox/brokers/kafka"
	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/kafka"
)

func fromURL(t *testing.T, raw string) kafka.Config {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kafka.FromURL(u)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func passwordFile(t *testing.T, password string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// grant lets the user of the listener with SASL do something with a topic.
func grant(t *testing.T, b *broker.Broker, topic string, operations ...kadm.ACLOperation) {
	t.Helper()
	results, err := newAdmin(t, b).CreateACLs(t.Context(), kadm.NewACLs().Topics(topic).ResourcePatternType(kadm.ACLPatternLiteral).
		Allow("User:"+broker.User).AllowHosts("*").Operations(operations...))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

// fails expects a check and a message to end with the same fault, in one line, and without the secret.
func fails(t *testing.T, c kafka.Config, topic, want, secret string) {
	t.Helper()
	s := newSink(t, c)
	check := s.Check(t.Context(), []string{topic})
	if check == nil || !strings.HasPrefix(check.Error(), want) || strings.Contains(check.Error(), "\n") {
		t.Errorf("the check says %v", check)
	}
	answer := send(t.Context(), s, &relay.Message{ID: "1", Destination: topic, Key: "k", Body: []byte("1")})
	if answer == nil || !strings.HasPrefix(answer.Error(), "outage: "+want) {
		t.Errorf("the answer is %v", answer)
	}
	if secret != "" && strings.Contains(fmt.Sprint(check, answer), secret) {
		t.Errorf("the secret is printed: %v, %v", check, answer)
	}
}

func TestSASL(t *testing.T) {
	t.Parallel()
	b := broker.Shared(t)
	topic := newTopic(t, b, 1)
	grant(t, b, topic, kadm.OpWrite, kadm.OpDescribe)
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			address := "kafka://" + broker.User + "@" + b.SASLAddr + "?sasl=" + mechanism + "&password-file="
			s := newSink(t, fromURL(t, address+passwordFile(t, broker.Password)))
			if err := s.Check(t.Context(), []string{topic}); err != nil {
				t.Fatal(err)
			}
			if err := send(t.Context(), s, &relay.Message{ID: mechanism, Destination: topic, Key: "k", Body: []byte("1")}); err != nil {
				t.Fatal(err)
			}
			const wrong = "wrong-secret"
			fails(t, fromURL(t, address+passwordFile(t, wrong)), topic, "kafka refuses the credentials: check user and secret: ", wrong)
		})
	}
}

// TestOAuthBearer takes tokens from a file and from the environment, and a new one for each connection.
func TestOAuthBearer(t *testing.T) {
	b := broker.Shared(t)
	topic := newTopic(t, b, 1)
	grant(t, b, topic, kadm.OpWrite, kadm.OpDescribe)
	address := "kafka://" + b.SASLAddr + "?sasl=OAUTHBEARER&"
	t.Setenv("TOKEN", broker.Token(time.Hour))
	file := passwordFile(t, broker.Token(time.Hour))
	for from, parameter := range map[string]string{"file": "password-file=" + file, "environment": "password-env=TOKEN"} {
		s := newSink(t, fromURL(t, address+parameter))
		if err := s.Check(t.Context(), []string{topic}); err != nil {
			t.Fatalf("%s: %v", from, err)
		}
		if err := send(t.Context(), s, &relay.Message{ID: from, Destination: topic, Key: "k", Body: []byte("1")}); err != nil {
			t.Fatalf("%s: %v", from, err)
		}
	}
	const refusal = "kafka refuses the credentials: check user and secret: "
	expired := broker.Token(-time.Minute)
	fails(t, fromURL(t, address+"password-file="+passwordFile(t, expired)), topic, refusal, expired)
	fails(t, fromURL(t, address+"password-file="+passwordFile(t, "no-token")), topic, refusal, "no-token")

	renewed := passwordFile(t, expired)
	s := newSink(t, fromURL(t, address+"password-file="+renewed))
	if err := s.Check(t.Context(), []string{topic}); err == nil {
		t.Error("an expired token is taken")
	}
	if err := os.WriteFile(renewed, []byte(broker.Token(time.Hour)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sendUntilTaken(t, s, &relay.Message{ID: "renewed", Destination: topic, Key: "k", Body: []byte("1")}); err != nil {
		t.Errorf("with a new token: %v", err)
	}
}

func TestACL(t *testing.T) {
	t.Parallel()
	b := broker.Shared(t)
	topic := newTopic(t, b, 1)
	grant(t, b, topic, kadm.OpDescribe)
	c := fromURL(t, "kafka://"+broker.User+"@"+b.SASLAddr+"?sasl=PLAIN&password-file="+passwordFile(t, broker.Password))
	s := newSink(t, c)
	const want = "the user may not write to the topic TestACL: grant it Write"
	if err := s.Check(t.Context(), []string{topic}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the check says %v", err)
	}
	m := &relay.Message{ID: "1", Destination: topic, Key: "k", Body: []byte("1")}
	if err := send(t.Context(), s, m); err == nil || !strings.HasPrefix(err.Error(), "outage: ") || !strings.Contains(err.Error(), ": grant it ") {
		t.Errorf("the answer is %v", err)
	}
	grant(t, b, topic, kadm.OpWrite)
	if err := sendUntilTaken(t, s, m); err != nil {
		t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	b := broker.Shared(t)
	topic := newTopic(t, b, 1)
	s := newSink(t, fromURL(t, "kafka://"+b.TLSAddr+"?ca="+b.CAFile))
	if err := s.Check(t.Context(), []string{topic}); err != nil {
		t.Fatal(err)
	}
	if err := send(t.Context(), s, &relay.Message{ID: "1", Destination: topic, Key: "k", Body: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ address, want string }{
		"another CA":   {"kafka://" + b.TLSAddr + "?tls=true", "the broker's certificate is not trusted: give the CA that signed it"},
		"another name": {"kafka://" + b.TLSAddr + "?server-name=elsewhere&ca=" + b.CAFile, "the broker's certificate is not trusted: give the CA that signed it, and the name"},
		"no broker":    {"kafka://127.0.0.1:1", "no broker answers at [127.0.0.1:1]: check the addresses"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fails(t, fromURL(t, test.address), topic, test.want, "")
		})
	}
}

func TestCheckedSize(t *testing.T) {
	t.Parallel()
	b := broker.Shared(t)
	topic := newTopic(t, b, 1, "max.message.bytes=2000")
	s := newSink(t, kafka.Config{Brokers: []string{b.Addr}, MaxMessageBytes: 3000})
	if err := s.Check(t.Context(), []string{topic}); err == nil || !strings.HasPrefix(err.Error(),
		"the topic TestCheckedSize takes messages of 2000 bytes, and MaxMessageBytes is 3000: raise max.message.bytes there") {
		t.Errorf("the check says %v", err)
	}
}
