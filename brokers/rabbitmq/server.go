// Package rabbitmq runs Debian's RabbitMQ for tests, as a process that is killed and frozen: as another user than root, with folders and
// ports of its own, and beside it the daemon that it looks for other servers with (epmd), which would stay for ever if RabbitMQ
// started it.
package rabbitmq

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/brokers/drive"
	"github.com/signalbox-go/signalbox/internal/needs"
	"github.com/signalbox-go/signalbox/internal/proc"
)

// Config is how a server differs from an empty one.
type Config struct {
	Text  string // lines of rabbitmq.conf
	Users []User // beside guest
	TLS   bool   // with the files of Server.Dir: cert.pem, key.pem, ca.pem, which are made before Start
	Dir   string // where it keeps everything; it may be made by Dir before
}

const remedy = "apt-get install rabbitmq-server"

// A User is one of the virtual host "/", with the password "secret".
type User struct {
	Name  string
	Write string // a regular expression of exchanges; the user may do everything else
}

// A Server is at the same address and has the same data whenever it runs.
type Server struct {
	Address, TLSAddress string // host:port
	program             string
	dir                 string
	env                 []string
	owner               []string // the command that begins the process as another user, if any
	process             *proc.Process
}

// Dir makes a folder that the server can read, below one of the test.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rabbitmq")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the server runs as another user
		t.Fatal(err)
	}
	return dir
}

// Start starts a server, or skips the test where there is none.
func Start(t testing.TB, c Config) *Server {
	t.Helper()
	s := &Server{
		// What Debian has in PATH insists on being root or rabbitmq.
		program: needs.Program(t, remedy, "/usr/lib/rabbitmq/bin/rabbitmq-server"),
		dir:     c.Dir,
	}
	epmd := needs.Program(t, remedy, "epmd")
	setpriv := needs.Program(t, "apt-get install util-linux", "setpriv")
	if s.dir == "" {
		s.dir = Dir(t)
	}
	// The kernel kills the servers when the test ends for whatever reason.
	s.owner = []string{setpriv, "--pdeathsig", "KILL"}
	if os.Geteuid() == 0 {
		s.owner = append(s.owner, "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")
	}
	ports := freePorts(t, 4)
	s.Address, s.TLSAddress = "127.0.0.1:"+ports[0], "127.0.0.1:"+ports[1]
	in := func(name string) string { return filepath.Join(s.dir, name) }
	s.env = []string{
		"HOME=" + s.dir, "ERL_EPMD_ADDRESS=127.0.0.1", "ERL_EPMD_PORT=" + ports[2], "RABBITMQ_DIST_PORT=" + ports[3],
		"RABBITMQ_NODENAME=t" + ports[0] + "@localhost",
		"RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_CONFIG_FILE=" + in("rabbitmq.conf"), "RABBITMQ_ADVANCED_CONFIG_FILE=" + in("none"),
		"RABBITMQ_MNESIA_BASE=" + in("data"), "RABBITMQ_LOG_BASE=" + in("log"), "RABBITMQ_SCHEMA_DIR=" + in("schema"),
		"RABBITMQ_GENERATED_CONFIG_DIR=" + in("generated"), "RABBITMQ_PID_FILE=" + in("pid"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + in("plugins"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
		"detached=true", // the script becomes the server instead of waiting for it
	}
	s.write(t, c)
	names := s.run(t, epmd, "-port", ports[2])
	t.Cleanup(names.Kill)
	drive.Until(t, "epmd serves", func() bool { return drive.Listens("127.0.0.1:" + ports[2]) })
	t.Cleanup(func() { s.Kill() })
	s.Restart(t)
	return s
}

// Reconfigure has the next Restart use another configuration.
func (s *Server) Reconfigure(t testing.TB, c Config) {
	t.Helper()
	s.write(t, c)
}

func (s *Server) write(t testing.TB, c Config) {
	t.Helper()
	text := "listeners.tcp.1 = " + s.Address + "\nload_definitions = " + filepath.Join(s.dir, "definitions.json") + "\n" + c.Text + "\n"
	if c.TLS {
		text += fmt.Sprintf("listeners.ssl.1 = %s\nssl_options.cacertfile = %[2]s/ca.pem\nssl_options.certfile = %[2]s/cert.pem\nssl_options.keyfile = %[2]s/key.pem\n", s.TLSAddress, s.dir)
	}
	for name, content := range map[string]string{
		"rabbitmq.conf": text, "plugins": "[].\n", "definitions.json": definitions(t, c.Users),
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o644); err != nil { //nolint:gosec // the server runs as another user
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		chown(t, s.dir)
	}
}

func chown(t testing.TB, dir string) {
	t.Helper()
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	if err := filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	}); err != nil {
		t.Fatal(err)
	}
}

// definitions are what the server has when it starts.
func definitions(t testing.TB, users []User) string {
	t.Helper()
	type object map[string]any
	all := object{"vhosts": []object{{"name": "/"}}}
	var accounts, permissions []object
	for _, u := range append(users, User{Name: "guest", Write: ".*"}) {
		password := "secret"
		if u.Name == "guest" {
			password = "guest"
		}
		const salt = "salt"
		sum := sha256.Sum256([]byte(salt + password))
		hash := base64.StdEncoding.EncodeToString(append([]byte(salt), sum[:]...))
		accounts = append(accounts, object{"name": u.Name, "password_hash": hash, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""})
		permissions = append(permissions, object{"user": u.Name, "vhost": "/", "configure": ".*", "write": u.Write, "read": ".*"})
	}
	all["users"], all["permissions"] = accounts, permissions
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// URL is the address of the server as amqp://.
func (s *Server) URL() string { return "amqp://" + s.Address + "/" }

// run starts a program as the server's user.
func (s *Server) run(t testing.TB, program string, args ...string) *proc.Process {
	t.Helper()
	return s.start(t, proc.Config{}, program, args...)
}

func (s *Server) start(t testing.TB, c proc.Config, program string, args ...string) *proc.Process {
	t.Helper()
	command := append(append(s.owner[:len(s.owner):len(s.owner)], "--", program), args...)
	c.Program, c.Args, c.Env = command[0], command[1:], s.env
	p, err := proc.Start(context.WithoutCancel(t.Context()), c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Restart starts the server, after Stop or Kill again, and waits until it serves.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.process = s.run(t, s.program)
	drive.Until(t, "RabbitMQ serves", func() bool {
		select {
		case <-s.process.Ended():
			t.Fatalf("RabbitMQ has ended: see %s/log", s.dir)
		default:
		}
		return drive.Listens(s.Address)
	})
}

// Stop ends the server in good order.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.process.Signal(syscall.SIGTERM)
	select {
	case <-s.process.Ended():
	case <-time.After(time.Minute):
		t.Fatal("RabbitMQ does not end")
	}
}

// Kill kills the server at once.
func (s *Server) Kill() { s.process.Kill() }

// Freeze stops the server, and returns when it stands still.
func (s *Server) Freeze(t testing.TB) {
	t.Helper()
	s.process.Signal(syscall.SIGSTOP)
	drive.Until(t, "the server stands still", func() bool { return drive.Stopped(s.process.Pid()) })
}

// Thaw has a frozen server go on.
func (s *Server) Thaw() { s.process.Signal(syscall.SIGCONT) }

// Control runs rabbitmqctl on the server, which has to run, and returns an error with what it said if it failed.
func (s *Server) Control(t testing.TB, args ...string) error {
	t.Helper()
	var said bytes.Buffer
	p := s.start(t, proc.Config{Stdout: &said, Stderr: &said}, needs.Program(t, remedy, "/usr/lib/rabbitmq/bin/rabbitmqctl"), append([]string{"--quiet"}, args...)...)
	if state := p.State(); !state.Success() {
		return fmt.Errorf("rabbitmqctl %s: %v: %s", strings.Join(args, " "), state, strings.Join(strings.Fields(said.String()), " "))
	}
	return nil
}

// freePorts returns ports that nobody listens on.
func freePorts(t testing.TB, n int) []string {
	t.Helper()
	ports := make([]string, n)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		_, ports[i], _ = net.SplitHostPort(listener.Addr().String())
	}
	return ports
}
