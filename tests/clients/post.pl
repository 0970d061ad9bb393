# Perl's LWP: post.pl URL USER PASSWORD FILE.
use strict;
use warnings;
use LWP::UserAgent;
use URI;

my ($url, $user, $password, $file) = @ARGV;
print "$LWP::VERSION\n";
my $body = do { local $/; open my $in, '<:raw', $file or die; <$in> };
my $agent = LWP::UserAgent->new;
$agent->credentials(URI->new($url)->host_port, 'retarus', $user, $password);
for (1 .. 2) {
    my $answer = $agent->post($url, 'Content-Type' => 'text/xml', Content => $body);
    die $answer->status_line unless $answer->is_success;
}
