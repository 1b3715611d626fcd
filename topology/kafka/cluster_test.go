package kafka

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// TestWithin ends a call of sarama, which takes no context, to a broker that accepts connections
// and does not answer.
func TestWithin(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cluster := Cluster{Brokers: []string{silent.Addr().String()}, ClientID: "test"}.Within(ctx)
	ended := make(chan error, 1)
	go func() {
		client, err := sarama.NewClient(cluster.Brokers, cluster.Config("test"))
		if err == nil {
			_ = client.Close()
		}
		ended <- err
	}()
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it connected")
		}
	case <-time.After(cluster.Config("test").Net.ReadTimeout / 2):
		t.Error("it waits for an answer still")
	}
}
