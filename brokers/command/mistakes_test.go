package command_test

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/signalbox-go/signalbox/brokers/certs"
	kafka "github.com/signalbox-go/signalbox/brokers/kafka"
	broker "github.com/signalbox-go/signalbox/brokers/nats"
	"github.com/signalbox-go/signalbox/brokers/rabbitmq"
)

// A mistake is what an operator may get wrong, and what the command says.
type mistake struct {
	to    string
	topic string // defaults to orders.placed, which is right
	env   []string
	want  string // a part of the line
}

const wrongSecret = "hunter2"

// tell runs relay run and relay check with each mistake: both end with exit code 5, and a line of their own that says what to do, without
// a secret.
func tell(t *testing.T, mistakes map[string]mistake) {
	t.Helper()
	c := build(t)
	for name, m := range mistakes {
		t.Run(name, func(t *testing.T) {
			if m.topic == "" {
				m.topic = "orders.placed"
			}
			for _, verb := range []string{"run", "check"} {
				out, diagnostics, code := c.run(t, m.env, "relay", verb, "--to", m.to, "--subscription", "s", "--topics", m.topic)
				said := strings.TrimSpace(diagnostics)
				if verb == "check" {
					said = out
				}
				var told []string
				for line := range strings.Lines(said) {
					if strings.Contains(line, m.want) {
						told = append(told, line)
					}
				}
				if code != 5 || len(told) != 1 || strings.Contains(out+diagnostics, wrongSecret) || len(strings.Split(strings.TrimSpace(diagnostics), "\n")) != 1 {
					t.Errorf("relay %s: exit code %d, want 5 and one line with %q:\n%s%s", verb, code, m.want, out, diagnostics)
				}
			}
			if n := c.number(t, `select count(*) from outbox.subscriptions`); n != 0 {
				t.Errorf("%d subscriptions were made", n)
			}
		})
	}
}

func secretFile(t *testing.T, secret string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestMistakesNATS(t *testing.T) {
	t.Parallel()
	ours, others := certs.New(t, t.TempDir()), certs.New(t, t.TempDir())
	open, encrypted := broker.Start(t, ""), broker.Start(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q }", ours.Cert, ours.Key))
	closed := broker.Start(t, `authorization: { users: [ { user: relay, password: secret, permissions: { publish: "orders.>", subscribe: "nothing" } } ] }`)
	stream(t, open, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	tell(t, map[string]mistake{
		"nothing is there":   {to: "nats://127.0.0.1:1", want: "start the server, or correct the address"},
		"no such host":       {to: "nats://nowhere.invalid:4222", want: "not connected to nats://nowhere.invalid:4222"},
		"credentials":        {to: "nats://relay@" + closed.Address, env: []string{"NATS_PASSWORD=" + wrongSecret}, want: "set the user and password"},
		"certificate":        {to: "tls://" + encrypted.Address + "?ca=" + others.CA, want: "set the CA file"},
		"no TLS there":       {to: "tls://" + open.Address, want: "the server speaks no TLS there: use nats:"},
		"unknown stream":     {to: open.URL(), topic: "invoices.paid", want: `no stream takes subject "invoices.paid": create one with`},
		"missing permission": {to: "nats://relay@" + closed.Address + "?password-file=" + secretFile(t, "secret"), want: "allow it to subscribe to _INBOX.>"},
	})
}

func TestMistakesRabbitMQ(t *testing.T) {
	t.Parallel()
	dir := rabbitmq.Dir(t)
	ours, others := certs.New(t, dir), certs.New(t, t.TempDir())
	server := rabbitmq.Start(t, rabbitmq.Config{Dir: dir, TLS: true, Users: []rabbitmq.User{{Name: "relay", Write: "^none$"}}})
	conn, err := amqp.Dial("amqp://guest:guest@" + server.Address + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if err := channel.ExchangeDeclare("events", "topic", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	tell(t, map[string]mistake{
		"nothing is there": {to: "amqp://127.0.0.1:1?exchange=events", want: "start the server, or correct the address"},
		"credentials":      {to: "amqp://guest@" + server.Address + "?exchange=events", env: []string{"RABBITMQ_PASSWORD=" + wrongSecret}, want: `correct the user "guest" or its password`},
		"virtual host":     {to: "amqp://" + server.Address + "/nowhere?exchange=events", want: `create the virtual host "nowhere", and give user "guest" access to it`},
		"certificate":      {to: "amqps://" + server.TLSAddress + "?exchange=events&ca=" + others.CA, want: "set the CA file"},
		"no TLS there":     {to: "amqps://" + server.Address + "?exchange=events&ca=" + ours.CA, want: "use the port for amqps:"},
		"unknown exchange": {to: "amqp://" + server.Address + "?exchange=nowhere", want: `there is no exchange "nowhere": declare it, or correct the destination`},
	})
}

func TestMistakesKafka(t *testing.T) {
	t.Parallel()
	b := kafka.New(t)
	authenticated := "kafka://" + kafka.User + "@" + b.SASLAddr + "?sasl=PLAIN&password-file="
	tell(t, map[string]mistake{
		"nothing is there":   {to: "kafka://127.0.0.1:1", want: "no broker answers at [127.0.0.1:1]: check the addresses"},
		"credentials":        {to: authenticated + secretFile(t, wrongSecret), want: "check user and secret"},
		"certificate":        {to: "kafka://" + b.TLSAddr + "?tls=true", want: "the broker's certificate is not trusted: give the CA that signed it"},
		"unknown topic":      {to: "kafka://" + b.Addr, topic: "nowhere", want: "the topic nowhere does not exist: create it, or let the relay"},
		"missing permission": {to: authenticated + secretFile(t, kafka.Password), want: "the user may not write to the topic orders.placed: grant it Write and Describe there"},
	})
}

func TestMistakesWebhook(t *testing.T) {
	t.Parallel()
	receiver := httptest.NewTLSServer(nil)
	t.Cleanup(receiver.Close)
	secret := "WEBHOOK_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	allowed := []string{secret, "WEBHOOK_ALLOW=127.0.0.0/8"}
	tell(t, map[string]mistake{
		"nothing is there": {to: "https://127.0.0.1:1/" + wrongSecret, env: allowed, want: "start the receiver, or correct the URL"},
		"certificate":      {to: receiver.URL + "/" + wrongSecret, env: allowed, want: "set ca_file to the authority that signed its certificate"},
		"private address":  {to: receiver.URL + "/" + wrongSecret, env: []string{secret}, want: "is private, local or reserved: allow it if endpoints may be there"},
	})
}
