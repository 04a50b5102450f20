// Package kafka starts Apache Kafka's own broker, in KRaft mode, for tests.
package kafka

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Users of the listeners with SASL. They may do nothing before a test grants it.
const (
	User     = "alice"
	Password = "alice-secret"
)

// A Broker is a broker and controller of its own, with its data in a folder that outlives its process. It has listeners without encryption,
// with TLS, and with SASL (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER). Who is not authenticated may do everything.
type Broker struct {
	Addr     string // without encryption
	TLSAddr  string
	SASLAddr string // without encryption
	CAFile   string // of the certificate of TLSAddr, which is for localhost and 127.0.0.1

	behind string // without encryption, for those who are told another address; empty without NewBehind

	java, jars string
	folder     string
	process    *process
}

// A process is java below a shell, which kills it when this process is gone.
type process struct {
	shell *exec.Cmd
	stdin io.Closer
	pid   int
}

const startTimeout = 2 * time.Minute

// create lays out a broker in a folder, which must be empty. For advertise, see NewBehind.
func create(ctx context.Context, java, jars, folder string, advertise func(address string) (string, error)) (*Broker, error) {
	ports, err := freePorts(5)
	if err != nil {
		return nil, err
	}
	addr := func(i int) string { return "127.0.0.1:" + strconv.Itoa(ports[i]) }
	b := &Broker{
		Addr: addr(0), TLSAddr: addr(1), SASLAddr: addr(2), CAFile: filepath.Join(folder, "ca.pem"), java: java, jars: jars, folder: folder,
	}
	keystore, err := writeCertificates(folder)
	if err != nil {
		return nil, err
	}
	plain := fmt.Sprintf(`org.apache.kafka.common.security.plain.PlainLoginModule required user_%s="%s";`, User, Password)
	const scram = `org.apache.kafka.common.security.scram.ScramLoginModule required;`
	// Without an issuer, the broker believes tokens that are not signed; see Token.
	const bearer = `org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";`
	lines := []string{
		"process.roles=broker,controller",
		"node.id=1",
		"controller.quorum.voters=1@" + addr(3),
		"controller.listener.names=CONTROLLER",
		"inter.broker.listener.name=PLAINTEXT",
		"listeners=PLAINTEXT://" + addr(0) + ",TLS://" + addr(1) + ",AUTH://" + addr(2) + ",CONTROLLER://" + addr(3),
		"advertised.listeners=PLAINTEXT://" + addr(0) + ",TLS://" + addr(1) + ",AUTH://" + addr(2),
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,AUTH:SASL_PLAINTEXT",
		"listener.name.tls.ssl.keystore.type=PEM",
		"listener.name.tls.ssl.keystore.location=" + keystore,
		"listener.name.auth.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
		"listener.name.auth.plain.sasl.jaas.config=" + plain,
		"listener.name.auth.scram-sha-256.sasl.jaas.config=" + scram,
		"listener.name.auth.scram-sha-512.sasl.jaas.config=" + scram,
		"listener.name.auth.oauthbearer.sasl.jaas.config=" + bearer,
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:ANONYMOUS",
		"log.dirs=" + filepath.Join(folder, "data"),
		"auto.create.topics.enable=false",
		"num.partitions=1",
		"offsets.topic.replication.factor=1",
		"offsets.topic.num.partitions=1",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"group.initial.rebalance.delay.ms=0",
		"num.network.threads=2",
		"num.io.threads=2",
		"log.cleaner.enable=false",
		"controlled.shutdown.enable=false",
	}
	if advertise != nil {
		b.behind = addr(4)
		advertised, err := advertise(b.behind)
		if err != nil {
			return nil, err
		}
		for i, line := range lines {
			switch name, _, _ := strings.Cut(line, "="); name {
			case "listeners":
				lines[i] += ",BEHIND://" + b.behind
			case "advertised.listeners":
				lines[i] += ",BEHIND://" + advertised
			case "listener.security.protocol.map":
				lines[i] += ",BEHIND:PLAINTEXT"
			}
		}
	}
	if err := os.WriteFile(b.properties(), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	args := b.args("kafka.tools.StorageTool", "format", "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAQ", "--config", b.properties())
	for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
		args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, User, Password))
	}
	if out, err := exec.CommandContext(ctx, java, args...).CombinedOutput(); err != nil { //nolint:gosec // our own arguments
		return nil, fmt.Errorf("format the broker's folder: %w: %s", err, out)
	}
	return b, nil
}

// Token is one of OAUTHBEARER for the user, which expires so much later. Nobody has signed it.
func Token(lasts time.Duration) string {
	now := time.Now()
	encode := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, User, now.Add(-time.Hour).Unix(), now.Add(lasts).Unix())
	return encode([]byte(`{"alg":"none"}`)) + "." + encode([]byte(claims)) + "."
}

func (b *Broker) properties() string { return filepath.Join(b.folder, "server.properties") }
func (b *Broker) log() string        { return filepath.Join(b.folder, "log") }

func (b *Broker) args(main string, args ...string) []string {
	return append([]string{
		"-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=64m", "-cp", filepath.Join(b.jars, "*"), main,
	}, args...)
}

// Start starts the process, on the same ports and with the same data as before, and waits until it serves.
func (b *Broker) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	const script = `log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null; wait`
	p := &process{shell: exec.Command("sh", append([]string{"-c", script, "sh", b.log(), b.java}, b.args("kafka.Kafka", b.properties())...)...)} //nolint:gosec // our own arguments
	stdin, err := p.shell.StdinPipe()
	if err != nil {
		return err
	}
	p.stdin = stdin
	stdout, err := p.shell.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.shell.Start(); err != nil {
		return err
	}
	b.process = p
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err == nil {
		p.pid, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err == nil {
		err = b.await(ctx)
	}
	if err != nil {
		b.Kill()
		out, _ := os.ReadFile(b.log())
		return fmt.Errorf("start the broker: %w: %s", err, out[max(0, len(out)-4000):])
	}
	return nil
}

// await waits until the listeners accept connections, which they do once the broker serves.
func (b *Broker) await(ctx context.Context) error {
	for _, addr := range []string{b.Addr, b.TLSAddr, b.SASLAddr} {
		for {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err == nil {
				_ = conn.Close()
				break
			}
			if syscall.Kill(b.process.pid, 0) != nil {
				return errors.New("its process has ended")
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

// Kill ends the process at once, also one that is frozen.
func (b *Broker) Kill() {
	if b.process == nil {
		return
	}
	_ = b.process.stdin.Close()
	_ = b.process.shell.Wait()
	b.process = nil
}

// Freeze stops the process in its tracks, with its connections open. Thaw has it go on.
func (b *Broker) Freeze() { _ = syscall.Kill(b.process.pid, syscall.SIGSTOP) }

// Thaw ends what Freeze began.
func (b *Broker) Thaw() { _ = syscall.Kill(b.process.pid, syscall.SIGCONT) }

// freePorts returns ports of this machine that are free now.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		ports[i] = l.Addr().(*net.TCPAddr).Port // it listens on TCP
	}
	return ports, nil
}
