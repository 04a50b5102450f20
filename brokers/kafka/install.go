package kafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Version is that of Apache Kafka.
const Version = "4.3.1"

const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>signalbox</groupId>
  <artifactId>kafka-broker</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>` + Version + `</version>
    </dependency>
  </dependencies>
</project>
`

// install returns the folder with Kafka's jars. They are fetched once for each user, through Maven.
func install(ctx context.Context, maven string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	parent := filepath.Join(cache, "signalbox")
	folder := filepath.Join(parent, "kafka-"+Version)
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(parent, "kafka-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	if err := os.WriteFile(filepath.Join(temp, "pom.xml"), []byte(pom), 0o600); err != nil {
		return "", err
	}
	jars := filepath.Join(temp, "jars")
	cmd := exec.CommandContext(ctx, maven, "-B", "-q", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+jars) //nolint:gosec // our own arguments
	cmd.Dir = temp
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetch Kafka %s through Maven: %w: %s", Version, err, out)
	}
	// Another process may have been faster.
	if err := os.Rename(jars, folder); err != nil && !errors.Is(err, os.ErrExist) {
		if _, there := os.Stat(folder); there != nil {
			return "", err
		}
	}
	return folder, nil
}
