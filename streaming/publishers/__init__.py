"""Publishers pass the events of all sessions on to the outside (MQTT brokers, files, ...)."""
