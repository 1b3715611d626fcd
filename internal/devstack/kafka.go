package devstack

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

// kafkaStop is far more than a clean stop of an idle broker takes (about a second), on a busy
// machine too.
const kafkaStop = time.Minute

// KafkaConfig sets how to run Apache Kafka.
type KafkaConfig struct {
	// Jars is the folder with Kafka's jars and all that they need; see FindKafka.
	Jars string
	// Dir keeps data, settings and log (server.log). "" is a temporary folder that Close removes.
	Dir string
	// Addr is the host:port to listen on and to advertise to clients. Port 0 takes a free one, "" is
	// 127.0.0.1:0.
	Addr string
	// Heap is Java's largest heap, as for -Xmx. Default 512m.
	Heap string
	// Optimize has Java compile what runs often once more, optimized. That is for measurements: it
	// doubles the CPU time of the first minute, which is all that most tests need.
	Optimize bool
	// Listeners in addition to the plain one, by name in capitals, each on a free port of the same
	// host. See [Kafka.ListenerAddr].
	Listeners map[string]KafkaListener
	// Users who may log in where a listener asks for one, by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512:
	// their passwords, of letters and digits. They are made with the data folder.
	Users map[string]string
	// Authorize makes everyone need rights, but those who come without a name by the plain listener.
	Authorize bool
	// Properties are added to server.properties and win over ours.
	Properties map[string]string
}

// Kafka is an Apache Kafka of one node in KRaft mode, run with java.
type Kafka struct {
	*server
	cfg            KafkaConfig
	javaPath       string
	controllerPort int
	listenerPorts  map[string]int
}

// FindKafka returns the folder with Kafka's jars: what TOLLSTREAM_KAFKA_JARS names, else
// .cache/kafka/lib under the module's root, where scripts/fetch puts them.
func FindKafka() (dir string, ok bool) {
	if dir = os.Getenv("TOLLSTREAM_KAFKA_JARS"); dir != "" {
		return dir, hasKafka(dir)
	}
	if dir, ok = cached("kafka", "lib"); !ok {
		return "", false
	}
	return dir, hasKafka(dir)
}

// cached returns the path of something that scripts/fetch puts into .cache under the module's root.
func cached(elem ...string) (path string, ok bool) {
	root, err := os.Getwd()
	if err != nil {
		return "", false
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			return filepath.Join(append([]string{root, ".cache"}, elem...)...), true
		}
		parent := filepath.Dir(root)
		if parent == root {
			return "", false
		}
		root = parent
	}
}

func hasKafka(dir string) bool {
	jars, _ := filepath.Glob(filepath.Join(dir, "kafka_*.jar"))
	return len(jars) > 0
}

// StartKafka starts a broker and returns when it answers clients.
func StartKafka(ctx context.Context, cfg KafkaConfig) (*Kafka, error) {
	k, err := startKafka(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	return k, nil
}

func startKafka(ctx context.Context, cfg KafkaConfig) (_ *Kafka, err error) {
	setDefault(&cfg.Heap, "512m")
	if !hasKafka(cfg.Jars) {
		return nil, fmt.Errorf("no kafka_*.jar in folder %q: run scripts/fetch/fetch.sh kafka", cfg.Jars)
	}
	k := &Kafka{cfg: cfg}
	if k.javaPath, err = findJava(); err != nil {
		return nil, err
	}
	var port int
	if k.server, port, err = newServer("Kafka", cfg.Addr, cfg.Dir, kafkaStop); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.folder.close())
		}
	}()
	k.command = func() (*exec.Cmd, error) {
		return k.java("kafka.Kafka", k.folder.join("server.properties")), nil
	}
	k.ready = func(ctx context.Context) error { return k.await(ctx, 5*pollReady, k.answers) }
	// Kafka must know its port before it has it, so that another program may come first: then try
	// other ports.
	for try := 0; ; try++ {
		if err = k.probePorts(port); err != nil {
			return nil, err
		}
		if err = k.writeSettings(); err != nil {
			return nil, err
		}
		if err = k.format(ctx); err != nil {
			return nil, fmt.Errorf("format storage: %w", err)
		}
		if err = k.start(ctx); err == nil {
			return k, nil
		}
		if try == 5 || !k.portTaken(port) {
			return nil, err
		}
	}
}

func findJava() (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		if p, err := exec.LookPath(filepath.Join(home, "bin", "java")); err == nil {
			return p, nil
		}
	}
	p, err := exec.LookPath("java")
	if err != nil {
		return "",
			errors.New("no java in JAVA_HOME or on PATH: install a Java runtime, version 17 or newer")
	}
	return p, nil
}

// writeSettings writes server.properties and the logging's settings.
func (k *Kafka) writeSettings() error {
	broker, controller := joinAddr(k.host, k.port), joinAddr(k.host, k.controllerPort)
	p := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        "1",
		"controller.quorum.voters":       "1@" + controller,
		"controller.listener.names":      "CONTROLLER",
		"listeners":                      "BROKER://" + broker + ",CONTROLLER://" + controller,
		"advertised.listeners":           "BROKER://" + broker,
		"inter.broker.listener.name":     "BROKER",
		"listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs":                       filepath.ToSlash(k.folder.join("data")),
		"auto.create.topics.enable":      "false",
		"num.partitions":                 "1",
		// One node can't keep the three copies that these ask for by default, and few partitions start
		// faster.
		"offsets.topic.replication.factor":                 "1",
		"offsets.topic.num.partitions":                     "4",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"transaction.state.log.num.partitions":             "4",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
		"share.coordinator.state.topic.num.partitions":     "1",
		// The first member needn't wait 3 s for others, and tests of failing members may be short.
		"group.initial.rebalance.delay.ms": "0",
		"group.min.session.timeout.ms":     "1000",
		// A killed broker that starts again is turned away until its former self's session is over (9 s
		// by default).
		"broker.session.timeout.ms":    "3000",
		"broker.heartbeat.interval.ms": "500",
	}
	if err := k.secure(p); err != nil {
		return err
	}
	maps.Copy(p, k.cfg.Properties)
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "%s=%s\n", key, p[key])
	}
	if err := os.WriteFile(k.folder.join("server.properties"), []byte(b.String()), 0o600); err != nil {
		return err
	}
	return os.WriteFile(k.folder.join("log4j2.properties"), []byte(log4jSettings), 0o600)
}

// log4jSettings sends warnings to the standard output, which is server.log.
const log4jSettings = `status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
`

// java returns a command that runs one of Kafka's programs.
func (k *Kafka) java(class string, args ...string) *exec.Cmd {
	compiler := "-XX:TieredStopAtLevel=1"
	if k.cfg.Optimize {
		compiler = "-XX:+TieredCompilation"
	}
	return exec.Command(k.javaPath, append([]string{
		"-Xmx" + k.cfg.Heap,
		"-XX:+UseSerialGC", // starts faster than G1 and needs fewer threads on a small machine
		compiler,
		"-Dlog4j2.configurationFile=" + k.folder.join("log4j2.properties"),
		"-cp", filepath.Join(k.cfg.Jars, "*"),
		class,
	}, args...)...)
}

// format prepares the data folder, once.
func (k *Kafka) format(ctx context.Context) error {
	// A format that was interrupted may lack the file, and one that has it is complete: it is written
	// last.
	if _, err := os.Stat(k.folder.join("data", "meta.properties")); err == nil {
		return nil
	}
	var id [16]byte
	rand.Read(id[:])
	return k.finish(ctx, k.java("kafka.tools.StorageTool", append([]string{"format",
		"--ignore-formatted", "--cluster-id=" + base64.RawURLEncoding.EncodeToString(id[:]), "-c",
		k.folder.join("server.properties")}, k.scramUsers()...)...))
}

// answers asks for the cluster's metadata, which names this broker when it takes requests.
func (k *Kafka) answers(context.Context) error {
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_8_0_0
	cfg.Net.DialTimeout, cfg.Net.ReadTimeout = 5*time.Second, 5*time.Second
	broker := sarama.NewBroker(k.Addr())
	if err := broker.Open(cfg); err != nil {
		return err
	}
	defer broker.Close()
	m, err := broker.GetMetadata(&sarama.MetadataRequest{Version: 5})
	if err == nil && len(m.Brokers) == 0 {
		err = errors.New("the cluster has no broker yet")
	}
	return err
}

// KafkaListener is one more way into a broker.
type KafkaListener struct {
	// KeyStore is a PEM file with the broker's key (PKCS #8) and certificates, for TLS. "" is a
	// connection without it.
	KeyStore string
	// ClientCA is a PEM file of the authorities whose certificates clients must show. "" asks for
	// none.
	ClientCA string
	// SASL asks clients for user and password.
	SASL bool
	// Advertise is the host:port advertised to clients, such as that of a proxy. "" is where the
	// broker listens.
	Advertise string
}

func (l KafkaListener) protocol() string {
	switch {
	case l.SASL && l.KeyStore != "":
		return "SASL_SSL"
	case l.SASL:
		return "SASL_PLAINTEXT"
	case l.KeyStore != "":
		return "SSL"
	}
	return "PLAINTEXT"
}

// ListenerAddr returns the host:port of one of the listeners in the configuration.
func (k *Kafka) ListenerAddr(name string) string { return joinAddr(k.host, k.listenerPorts[name]) }

// probePorts sets the broker's ports, each another one, the first to port if that is not 0.
func (k *Kafka) probePorts(port int) (err error) {
	if k.port, err = probePort(k.host, port); err != nil {
		return err
	}
	ours := []int{k.port}
	next := func() int {
		for err == nil {
			var p int
			if p, err = probePort(k.host, 0); err == nil && !slices.Contains(ours, p) {
				ours = append(ours, p)
				return p
			}
		}
		return 0
	}
	k.controllerPort, k.listenerPorts = next(), map[string]int{}
	for name := range k.cfg.Listeners {
		k.listenerPorts[name] = next()
	}
	return err
}

// portTaken reports whether another program took one of the broker's ports, which are free ones but
// for the first if port is not 0.
func (k *Kafka) portTaken(port int) bool {
	if port == 0 && isTaken(k.host, k.port) || isTaken(k.host, k.controllerPort) {
		return true
	}
	for _, p := range k.listenerPorts {
		if isTaken(k.host, p) {
			return true
		}
	}
	return false
}

// secure adds listeners, users and rights to the broker's properties.
func (k *Kafka) secure(p map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(k.cfg.Listeners)) {
		l := k.cfg.Listeners[name]
		addr, advertise := k.ListenerAddr(name), l.Advertise
		setDefault(&advertise, addr)
		p["listeners"] += "," + name + "://" + addr
		p["advertised.listeners"] += "," + name + "://" + advertise
		p["listener.security.protocol.map"] += "," + name + ":" + l.protocol()
		prefix := "listener.name." + strings.ToLower(name) + "."
		if l.KeyStore != "" {
			p[prefix+"ssl.keystore.type"] = "PEM"
			p[prefix+"ssl.keystore.location"] = filepath.ToSlash(l.KeyStore)
		}
		if l.ClientCA != "" {
			p[prefix+"ssl.client.auth"] = "required"
			p[prefix+"ssl.truststore.type"] = "PEM"
			p[prefix+"ssl.truststore.location"] = filepath.ToSlash(l.ClientCA)
		}
		if l.SASL {
			p[prefix+"sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
			p[prefix+
				"plain.sasl.jaas.config"] = "org.apache.kafka.common.security.plain.PlainLoginModule required" +
				k.plainUsers() + ";"
			for _, mechanism := range scramMechanisms {
				p[prefix+strings.ToLower(mechanism)+
					".sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
			}
		}
	}
	for user, password := range k.cfg.Users {
		if !plainName.MatchString(user) || !plainName.MatchString(password) {
			return fmt.Errorf("user %q: want 1 to 32 letters, digits, _ or - in name and password", user)
		}
	}
	if k.cfg.Authorize {
		p["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
		p["super.users"] = "User:ANONYMOUS" // who comes by a plain listener
	}
	return nil
}

var scramMechanisms = []string{"SCRAM-SHA-256", "SCRAM-SHA-512"}

func (k *Kafka) plainUsers() string {
	var b strings.Builder
	for _, user := range slices.Sorted(maps.Keys(k.cfg.Users)) {
		fmt.Fprintf(&b, ` user_%s="%s"`, user, k.cfg.Users[user])
	}
	return b.String()
}

// scramUsers returns the options of the storage tool that make the users known to SCRAM.
func (k *Kafka) scramUsers() []string {
	var options []string
	for _, user := range slices.Sorted(maps.Keys(k.cfg.Users)) {
		for _, mechanism := range scramMechanisms {
			options = append(options, "--add-scram",
				fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, user, k.cfg.Users[user]))
		}
	}
	return options
}
