# Ruby's httpclient: post.rb URL USER PASSWORD FILE.
require 'httpclient'

url, user, password, file = ARGV
puts HTTPClient::VERSION
client = HTTPClient.new
client.set_auth(url, user, password)
2.times do
  answer = client.post(url, File.binread(file), 'Content-Type' => 'text/xml')
  abort answer.status.to_s unless answer.status == 200
end
